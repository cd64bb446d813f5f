"""What an input can be: numbers in a range, choices, texts, files, and inputs that may be left out."""

from pathlib import Path
from typing import Annotated, Literal

from engine import Catalog, Engine, Graph, Link, node
from engine.schema import Choice, FileChoice, Range, Widget
from engine.types import Image, Mask

FILTERS = ("box", "bicubic", "lanczos")


@node("Poster", category="image")
def poster(
    image: Image,
    levels: Annotated[int, Range(2, 64)] = 4,
    strength: Annotated[float, Range(0, 1, step=0.01)] = 1.0,
    where: Literal["everywhere", "dark parts", "light parts"] = "everywhere",
    caption: Annotated[str, Widget(multiline=True)] = "",
    keep_alpha: bool = False,
    mask: Mask | None = None,
) -> Image:
    """Reduce the number of colours.

    Args:
        image: The picture.
        levels: How many levels each channel keeps.
        strength: How much of the effect to mix in.
        where: Which parts to change.
        caption: Unused here; a text of several lines.
        keep_alpha: Whether to keep a fourth channel.
        mask: Changes only what it covers; everything when it is not linked.
    """
    rounded = (image * (levels - 1)).round() / (levels - 1)
    mixed = image + (rounded - image) * strength
    return Image(mixed if mask is None else image + (mixed - image) * mask[..., None])


@node("ReadNote", category="text")
def read_note(
    note: Annotated[Path, FileChoice("notes")],
    encoding: Annotated[str, Choice(("utf-8", "latin-1"))] = "utf-8",
) -> str:
    """Read a text file from the folder `notes` of a models root.

    Args:
        note: The file. The workflow holds its name; the node is given its path.
        encoding: How its letters are written.
    """
    return note.read_text(encoding)


if __name__ == "__main__":
    catalog = Catalog.load("nodes") | Catalog([poster, read_note])
    graph = Graph().add("in", "LoadImage", image="portrait.png").add("out", "Poster", image=Link("in"), levels=3)
    with Engine(catalog=catalog) as engine:
        assert len(engine.run(graph, ["out"]).value("out").unique()) == 3
        problems = engine.validate(graph.set("out", levels=1, where="nowhere"))
        assert [p.code for p in problems] == ["below-minimum", "not-a-choice"]
