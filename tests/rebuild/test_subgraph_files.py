"""A part of a subgraph that names a file is known the next time, also where it holds a value that only has an origin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from engine import Catalog, Engine, Graph, Link, node
from engine.schema import FileChoice
from engine.types import Expansion


class Opaque:
    """A value that nothing but its origin can name, as a model is."""


@node("Make")
def make() -> Opaque:
    """Make one."""
    return Opaque()


@node("ReadWith")
def read_with(tool: Opaque, file: Annotated[Path, FileChoice("notes")]) -> str:
    """Read.

    Args:
        tool: What with.
        file: What.
    """
    return f"{file.read_text()} {type(tool).__name__}"


@node("Around")
def around(tool: Opaque, file: str, times: int) -> str | Expansion:
    """Become a graph.

    Args:
        tool: Passed on.
        file: Passed on.
        times: Changes nothing.
    """
    return Expansion(Graph().add("part", "ReadWith", tool=tool, file=file), (Link("part"),))


def test_a_part_that_reads_a_file_with_a_given_value_is_known_again(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    note = tmp_path / "notes" / "a.safetensors"
    note.write_text("one")
    graph = Graph().add("make", "Make").add("out", "Around", tool=Link("make"), file="a.safetensors", times=1)
    with Engine(models_dir=tmp_path, catalog=Catalog([make, read_with, around])) as engine:
        assert set(engine.run(graph, ["out"]).report.ran) == {"make", "out.0.part", "out"}
        again = engine.run(graph.set("out", times=2), ["out"])
        assert again.value("out") == "one Opaque"
        assert again.report.ran == ("out",)

        note.write_text("two")
        changed = engine.run(graph.set("out", times=3), ["out"])
        assert changed.value("out") == "two Opaque"
        assert "out.0.part" in changed.report.ran
