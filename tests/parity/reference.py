"""The reference vectors: what ComfyUI computes for small workflows, and the checkpoints that they name.

The whole set is used where it lies beside the repository (`../shared/parity`), else the part of it that Weft can run,
which is in `tests/data/parity`. `python tests/parity/reference.py` writes that part anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from engine import Engine

ROOT = Path(__file__).parents[2]
WHOLE = ROOT.parent / "shared" / "parity"
PART = ROOT / "tests" / "data" / "parity"
CACHE = ROOT / "tests" / ".cache" / "parity"

ERRORS = CACHE / "errors.json"
"""Name of a case to the relative error of the last run of the tests."""

FAMILIES = ("sd15_", "sdxl_")
"""How the names of model files begin that Weft can load."""

MODEL_PORTS = frozenset({"ckpt_name", "lora_name", "control_net_name", "vae_name"})


@dataclass(frozen=True)
class Case:
    """A workflow and the output that is compared."""

    name: str
    prompt: dict[str, Any]
    node: str
    slot: int

    @property
    def is_image(self) -> bool:
        """Whether pictures are compared, which pass through the VAE."""
        return self.prompt[self.node]["class_type"] == "VAEDecode"

    def missing(self) -> list[str]:
        """What the case needs that Weft does not have."""
        from engine.sampling.names import SAMPLER_NAMES
        from engine.schema import Catalog

        catalog = Catalog.load()
        lacking = []
        for node in self.prompt.values():
            inputs = node["inputs"]
            if node["class_type"] not in catalog:
                lacking.append(node["class_type"])
            if inputs.get("sampler_name", "euler") not in SAMPLER_NAMES:
                lacking.append(inputs["sampler_name"])
            lacking += [inputs[port] for port in MODEL_PORTS & inputs.keys() if not inputs[port].startswith(FAMILIES)]
        return lacking


@dataclass(frozen=True)
class Reference:
    """A folder of reference vectors."""

    folder: Path

    @classmethod
    def find(cls) -> Reference:
        """The whole set, or the part in the repository."""
        return cls(WHOLE if (WHOLE / "cases.json").exists() else PART)

    @cached_property
    def cases(self) -> dict[str, Case]:
        """Every case by name."""
        found = json.loads((self.folder / "cases.json").read_text("utf-8"))
        return {name: Case(name, case["prompt"], str(case["output"][0]), case["output"][1]) for name, case in found.items()}

    @cached_property
    def supported(self) -> tuple[str, ...]:
        """Names of the cases that Weft has all nodes, samplers and models for."""
        return tuple(name for name, case in self.cases.items() if not case.missing())

    def expected(self, name: str) -> dict[str, Tensor]:
        """What the reference computes: field to tensor."""
        from safetensors import safe_open

        with safe_open(self.folder / "vectors.safetensors", "pt") as file:
            fields = [key for key in file.keys() if key.startswith(f"{name}|")]  # noqa: SIM118 - it is no mapping
            return {key.partition("|")[2]: file.get_tensor(key) for key in fields}

    def models(self) -> Path:
        """A models folder with the checkpoints, LoRA files and embeddings that cases name; made once."""
        for manifest in sorted(self.folder.glob("*.manifest.json")):
            name = manifest.name.removesuffix(".manifest.json")
            kind = "controlnet" if "controlnet" in name else "checkpoints"
            if name.startswith(FAMILIES):
                build_checkpoint(manifest, CACHE / "models" / kind / f"{name}.safetensors")
        for kind, pattern in (("loras", "*_lora.safetensors"), ("embeddings", "tiny_ti.safetensors")):
            (CACHE / "models" / kind).mkdir(parents=True, exist_ok=True)
            for asset in (self.folder / "assets").glob(pattern):
                copy = CACHE / "models" / kind / asset.name
                if not copy.exists():
                    shutil.copyfile(asset, copy)
        return CACHE / "models"


def build_checkpoint(manifest: Path, out: Path) -> None:
    """Write the checkpoint of a manifest, unless it is there.

    Each tensor is a function of its own name: normal numbers from the CPU generator, scaled by 1 / sqrt(fan-in), norms
    near 1, biases near 0.
    """
    if out.exists():
        return
    import torch
    from safetensors.torch import save_file

    def tensor(name: str, shape: list[int]) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(f"0:{name}".encode()).digest()[:8], "big") >> 1
        values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        if name.endswith("logit_scale"):
            return torch.tensor(4.6)
        if "embedding" in name or (len(shape) < 2 and name.endswith("bias")):
            return values * 0.02
        return values / math.sqrt(math.prod(shape[1:])) if len(shape) >= 2 else 1 + 0.05 * values

    out.parent.mkdir(parents=True, exist_ok=True)
    hidden = out.with_suffix(".tmp")
    shapes = json.loads(manifest.read_text("utf-8"))
    save_file({name: tensor(name, shape) for name, shape in shapes.items()}, hidden)
    hidden.rename(out)


def called(prompt: dict[str, Any], node: str, engine: Engine) -> tuple[Any, ...]:
    """The outputs of a node by plain calls, without validation."""
    kind = engine.catalog[prompt[node]["class_type"]]
    inputs = {
        name: called(prompt, value[0], engine)[value[1]] if isinstance(value, list) else value
        for name, value in prompt[node]["inputs"].items()
    }
    inputs |= {name: engine.folders.find(port.files.folder, inputs[name]) for name, port in kind.inputs.items() if port.files}
    if kind.run_parameter:
        inputs[kind.run_parameter] = SimpleNamespace(
            folders=engine.folders, device=engine.device, dtype=engine.dtype, progress=lambda *_: None
        )
    outputs = kind.function(**inputs)
    return (outputs,) if kind.single else outputs


def relative_error(got: Tensor, expected: Tensor) -> float:
    """||got - expected|| / ||expected||, in float64; infinite where shapes differ or values are not finite."""
    if got.shape != expected.shape:
        return math.inf
    difference = float((got.double() - expected.double()).norm())
    size = float(expected.double().norm())
    error = difference / size if size else difference
    return error if math.isfinite(error) else math.inf


def write_part() -> None:
    """Copy what Weft can run from the whole set into the repository."""
    from safetensors.torch import save_file

    whole = Reference(WHOLE)
    shutil.rmtree(PART, ignore_errors=True)
    (PART / "assets").mkdir(parents=True)
    documents = json.loads((WHOLE / "cases.json").read_text("utf-8"))
    kept = {name: documents[name] for name in whole.supported}
    text = json.dumps(kept)
    (PART / "cases.json").write_text(text + "\n", "utf-8")
    vectors = {f"{name}|{field}": value for name in kept for field, value in whole.expected(name).items()}
    save_file(vectors, PART / "vectors.safetensors")
    for asset in (WHOLE / "assets").iterdir():
        if asset.stem in text:
            shutil.copyfile(asset, PART / "assets" / asset.name)
    for manifest in WHOLE.glob("*.manifest.json"):
        if manifest.name.removesuffix(".manifest.json") + ".safetensors" in text:
            shutil.copyfile(manifest, PART / manifest.name)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    write_part()
