"""A catalogue of small nodes shaped like a diffusion workflow, and an engine that logs what it executes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

from engine import Catalog, Engine, Graph, Link, node
from engine.result import RunResult
from engine.schema import FileChoice, Range
from engine.types import Shown


@node("Load")
def load(*, file: Annotated[Path, FileChoice("checkpoints")]) -> str:
    """Read a text file.

    Args:
        file: Its name.
    """
    return file.read_text()


@node("Text")
def text(model: str, prompt: str) -> str:
    """Encode.

    Args:
        model: What encodes.
        prompt: What is encoded.
    """
    return f"{prompt}@{model}"


@node("Denoise")
def denoise(text: str, seed: Annotated[int, Range(0, 2**64 - 1)] = 0, steps: int = 20) -> str:
    """Sample.

    Args:
        text: The prompt.
        seed: The seed.
        steps: How many steps.
    """
    return f"{text}#{seed}x{steps}"


@node("Decode")
def decode(latent: str) -> str:
    """Decode.

    Args:
        latent: What is decoded.
    """
    return latent.upper()


@node("Save", effect=True)
def save(image: str) -> Shown:
    """Show.

    Args:
        image: What is shown.
    """
    return Shown({"text": (image,)})


CATALOG = Catalog([load, text, denoise, decode, save])


class Bench:
    """Runs graphs and says, node by node, what was done: `ran load, hit text`."""

    def __init__(self, root: Path, **options: object) -> None:
        self.root = root
        (root / "checkpoints").mkdir(parents=True, exist_ok=True)
        (root / "checkpoints" / "model.safetensors").write_text("m")
        self.engine = Engine(models_dir=root, catalog=CATALOG, output_dir=root / "out", **options)
        self.result: RunResult | None = None

    def run(self, graph: Graph, targets: list[str] | None = None, **options: object) -> str:
        self.result = self.engine.run(graph, targets, **options)
        entries = sorted(self.result.report, key=lambda e: list(graph.nodes).index(e.node))
        return ", ".join(f"{e.state} {e.node}" for e in entries)

    def why(self, node: str) -> str:
        assert self.result is not None
        return self.result.report[node].because


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def graph() -> Graph:
    """load -> text -> denoise -> decode"""
    return (
        Graph()
        .add("load", "Load", file="model.safetensors")
        .add("text", "Text", model=Link("load"), prompt="cat")
        .add("denoise", "Denoise", text=Link("text"), seed=1)
        .add("decode", "Decode", latent=Link("denoise"))
    )
