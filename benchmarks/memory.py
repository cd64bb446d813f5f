"""Peak memory of a run against that of importing the libraries and holding the weights.

    python benchmarks/memory.py [WORKFLOW]

Each is measured in a process of its own (the kernel's high-water mark of its resident set).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

FLOOR = """
import resource, sys
from engine import devices
devices.prepare()
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel
from safetensors.torch import load_file
tensors = {name: tensor.float() for name, tensor in load_file(sys.argv[1]).items()}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

RUN = """
import resource, sys, tempfile
from engine import Engine
with tempfile.TemporaryDirectory() as folder, Engine(output_dir=folder) as engine:
    engine.run(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_mib(code: str, argument: Path) -> float:
    """High-water mark in MiB of a process that runs `code`."""
    done = subprocess.run([sys.executable, "-c", code, str(argument)], cwd=ROOT, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workflow", type=Path, nargs="?", default=ROOT / "workflows" / "portrait.json")
    parser.add_argument(
        "--checkpoint", type=Path, default=ROOT / "engine" / "assets" / "models" / "checkpoints" / "portrait.safetensors"
    )
    options = parser.parse_args()
    floor, run = peak_mib(FLOOR, options.checkpoint.resolve()), peak_mib(RUN, options.workflow.resolve())
    print(f"libraries and weights {floor:8.0f} MiB")
    print(f"a run                 {run:8.0f} MiB")
    print(f"ratio                 {run / floor:8.3f}")


if __name__ == "__main__":
    main()
