"""What a LoRA costs on a network of the size of Stable Diffusion 1.5, with random weights.

    python benchmarks/lora.py [--rank 32] [--repeat 5]

Measured are reading the network from its file; copying it, as a program has to that changes weights in place and wants the
old ones back; making the network with a LoRA from the one that is there; going back to the one without; and the memory that
each takes. Weights come memory-mapped: what reading them really costs is in the first pass over them.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.models import apply_lora, load_unet, preload

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "models"))

import architectures

PROC = Path("/proc/self/statm")
PAGE_BYTES = 4096


def resident_mib() -> float:
    """Memory of this process that no file backs, freed blocks given back: memory-mapped weights do not count."""
    ctypes.CDLL(None).malloc_trim(0)
    pages = PROC.read_text("ascii").split()
    return (int(pages[1]) - int(pages[2])) * PAGE_BYTES / 2**20


def timed(function, repeat: int) -> tuple[float, object]:
    """Median seconds, and the last result."""
    taken = []
    for _ in range(repeat):
        started = time.perf_counter()
        result = function()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken), result


def kohya(weights, rank: int) -> dict[str, torch.Tensor]:
    """Factors for every layer of the attention blocks, as kohya's tools train by default."""
    tensors = {}
    for name, weight in weights.items():
        if ".attentions." in name and name.endswith(".weight") and weight.ndim > 1:
            stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            one = [1] * (weight.ndim - 2)
            tensors[f"{stem}.lora_down.weight"] = torch.randn(rank, weight.shape[1], *one).half()
            tensors[f"{stem}.lora_up.weight"] = torch.randn(weight.shape[0], rank, *one).half()
            tensors[f"{stem}.alpha"] = torch.tensor(float(rank))
    return tensors


def loha(weights, rank: int) -> dict[str, torch.Tensor]:
    """The same as LoHa."""
    tensors = {}
    for name, weight in weights.items():
        if ".attentions." in name and name.endswith(".weight") and weight.ndim > 1:
            stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            for n in (1, 2):
                tensors[f"{stem}.hada_w{n}_a"] = torch.randn(weight.shape[0], rank).half()
                tensors[f"{stem}.hada_w{n}_b"] = torch.randn(rank, weight.shape[1]).half()
    return tensors


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    preload()
    with tempfile.TemporaryDirectory() as folder:
        file, noise = Path(folder) / "unet.safetensors", torch.Generator().manual_seed(1)
        shapes = architectures.unet((320, 640, 1280, 1280), 2, (0, 1, 2), 768, 4)
        save_file({name: torch.rand(shape, generator=noise) * 0.02 for name, shape in shapes.items()}, file)
        anew, model = timed(
            lambda: (loaded := load_unet(file, device="cpu", dtype="float32"), loaded.network)[0], options.repeat
        )
        mib = model.weights.nbytes / 2**20
        copying, copy = timed(lambda: [tensor.clone() for tensor in model.weights.tensors.values()], options.repeat)
        del copy
        print(f"{'the network, read and built':34} {anew * 1e3:9.1f} ms, {mib:6.0f} MiB")
        print(f"{'a copy of it, not made here':34} {copying * 1e3:9.1f} ms, {mib:6.0f} MiB more")
        for title, factors in (("LoRA", kohya), ("LoHa", loha)):
            path = Path(folder) / f"{title}.safetensors"
            save_file(factors(model.weights.tensors, options.rank), path)
            reading, patched = timed(lambda path=path: apply_lora(model, None, path)[0], options.repeat)
            before = resident_mib()
            network = apply_lora(model, None, path)[0].network
            more = resident_mib() - before
            del network
            making, _ = timed(lambda path=path: apply_lora(model, None, path)[0].network, options.repeat)
            size = patched.weights.made.nbytes / 2**20
            print(f"{title + f' of rank {options.rank}, read':34} {reading * 1e3:9.1f} ms")
            print(
                f"{title + ', read and made':34} {making * 1e3:9.1f} ms, {more:6.0f} MiB more ({size:.0f} of changed weights)"
            )
        back, _ = timed(lambda: model.network, options.repeat)
        print(f"{'back to the network without':34} {back * 1e3:9.1f} ms")


if __name__ == "__main__":
    main()
