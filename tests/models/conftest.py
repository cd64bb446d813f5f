"""A real, tiny checkpoint of Stable Diffusion 1, and the ways to write it down."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "parity")]

if TYPE_CHECKING:
    from torch import Tensor

    from engine.models import Checkpoint


@pytest.fixture(scope="session")
def assets() -> Path:
    from reference import Reference

    return Reference.find().folder / "assets"


@pytest.fixture(scope="session")
def tiny_path() -> Path:
    from reference import Reference

    return Reference.find().models() / "checkpoints" / "sd15_tiny.safetensors"


@pytest.fixture(scope="session")
def tiny_tensors(tiny_path: Path) -> dict[str, Tensor]:
    from engine.models import files

    return files.read_tensors(tiny_path)


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Checkpoint:
    from engine.models import load_checkpoint

    return load_checkpoint(tiny_path, device="cpu", dtype="float32")


@pytest.fixture(scope="session", autouse=True)
def _no_gradients():
    import torch

    with torch.inference_mode():
        yield
