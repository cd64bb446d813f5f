"""Several inputs as one parameter, and a choice that brings inputs of its own."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from engine import Catalog, Engine, Graph
from engine.schema import Growing, Range, node, option


@option("none")
class NoFrame(NamedTuple):
    """Leave it as it is."""


@option("line")
class Line(NamedTuple):
    """Draw a line around it.

    Attributes:
        width: In characters.
    """

    width: Annotated[int, Range(1, 8)] = 1


@node("Frame", category="text")
def frame_text(*, pieces: Annotated[Mapping[str, str], Growing("piece", max=8)], frame: NoFrame | Line) -> str:
    """Put texts into one frame.

    Args:
        pieces: The texts.
        frame: What is around them.
    """
    text = " ".join(pieces.values())
    return text if isinstance(frame, NoFrame) else "|" * frame.width + text + "|" * frame.width


if __name__ == "__main__":
    inputs = {"pieces.piece0": "hello", "pieces.piece1": "world", "frame": "line", "frame.width": 2}
    with Engine(catalog=Catalog([frame_text])) as engine:
        assert engine.run(Graph().add("1", "Frame", **inputs), ["1"]).value("1") == "||hello world||"
