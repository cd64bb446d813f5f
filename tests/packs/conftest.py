"""Writes packs into a folder and runs workflows with them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from engine import Catalog, Engine
from engine.folders import gather
from engine.packs import Loaded, load
from engine.result import RunResult


class Bench:
    """A folder of packs, and an engine with their kinds."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packs = root / "custom_nodes"
        self.packs.mkdir()
        self.events: list[Any] = []
        self._engine: Engine | None = None
        self._loaded: Loaded | None = None

    def write(self, name: str, text: str) -> None:
        path = self.packs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    @property
    def loaded(self) -> Loaded:
        if self._loaded is None:
            folders = gather([self.root / "models"], self.root / "input", self.root / "output")
            self._loaded = load([self.packs], folders, Catalog.load("nodes"))
        return self._loaded

    @property
    def engine(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(
                models_dir=self.root / "models",
                input_dir=self.root / "input",
                output_dir=self.root / "output",
                catalog=self.loaded.catalog,
            )
        return self._engine

    def run(self, nodes: dict[str, tuple[str, dict[str, Any]]], targets: list[str] | None = None, **options: Any) -> RunResult:
        """Run nodes, given as id to (kind, inputs)."""
        self.events.clear()
        return self.engine.run(document(nodes), targets, on_event=self.events.append, **options)

    def value(self, nodes: dict[str, tuple[str, dict[str, Any]]], target: str, port: int = 0) -> Any:
        return self.run(nodes, [target]).value(target, port)


def document(nodes: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return {i: {"class_type": kind, "inputs": inputs} for i, (kind, inputs) in nodes.items()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
