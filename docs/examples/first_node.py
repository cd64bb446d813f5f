"""A first node: what it is, how to call it, how to run it."""

from typing import Annotated

from engine import Catalog, Engine, Graph, Link, node
from engine.schema import Range
from engine.types import Image


@node("Tint", category="image/colour")
def tint(
    image: Image,
    red: Annotated[float, Range(0, 2, step=0.05)] = 1.0,
    green: Annotated[float, Range(0, 2, step=0.05)] = 1.0,
    blue: Annotated[float, Range(0, 2, step=0.05)] = 1.0,
) -> Image:
    """Make the colours of a picture stronger or weaker.

    Args:
        image: The picture.
        red: Factor of the red channel.
        green: Factor of the green channel.
        blue: Factor of the blue channel.

    Returns:
        IMAGE: The picture in its new colours.
    """
    import torch

    return Image((image[..., :3] * torch.tensor([red, green, blue])).clamp(0, 1))


def call_it() -> None:
    """The decorated function is still a function: tests call it."""
    import torch

    grey = Image(torch.full((1, 2, 2, 3), 0.5))
    assert tint(grey, red=2.0)[0, 0, 0].tolist() == [1.0, 0.5, 0.5]


def run_it() -> None:
    """In a workflow it is a kind like any other."""
    catalog = Catalog.load("nodes") | Catalog([tint])
    graph = Graph().add("picture", "LoadImage", image="portrait.png")
    graph = graph.add("sepia", "Tint", image=Link("picture"), red=1.2, blue=0.6)
    with Engine(catalog=catalog) as engine:
        assert engine.run(graph, ["sepia"]).value("sepia").shape == (1, 128, 128, 3)


if __name__ == "__main__":
    call_it()
    run_it()
