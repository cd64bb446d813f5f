"""Several outputs: a NamedTuple whose fields are their names."""

from typing import NamedTuple

from engine import Catalog, Engine, Graph, Link, node
from engine.types import Image


class Size(NamedTuple):
    """Sides of a picture."""

    width: int
    height: int


@node("ImageSize", category="image")
def image_size(image: Image) -> Size:
    """Measure a picture.

    Args:
        image: The picture.

    Returns:
        width: In pixels.
        height: In pixels.
    """
    return Size(width=image.shape[2], height=image.shape[1])


if __name__ == "__main__":
    catalog = Catalog.load("nodes") | Catalog([image_size])
    graph = (
        Graph()
        .add("picture", "LoadImage", image="portrait.png")
        .add("size", "ImageSize", image=Link("picture"))
        .add("wide", "ImageScale", image=Link("picture"), width=Link("size", "height"), height=64,
             upscale_method="area", crop="disabled")
    )  # fmt: skip
    with Engine(catalog=catalog) as engine:
        result = engine.run(graph, ["size", "wide"])
        assert result.value("size", "height") == result.value("size", 1) == 128
        assert result.value("wide").shape == (1, 64, 128, 3)
