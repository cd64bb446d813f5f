"""A type of your own: any class can travel on links."""

from dataclasses import dataclass

from engine import Catalog, Engine, Graph, Link, node


@dataclass(frozen=True)
class Palette:
    """Colours; the class name in capitals, `PALETTE`, is the type of the port."""

    colours: tuple[str, ...]


@node("MakePalette", category="colour")
def make_palette(first: str, second: str) -> Palette:
    """Put two colours together.

    Args:
        first: One colour.
        second: Another one.
    """
    return Palette((first, second))


@node("DescribePalette", category="colour")
def describe_palette(palette: Palette) -> str:
    """Say what is in a palette.

    Args:
        palette: The palette.
    """
    return " and ".join(palette.colours)


if __name__ == "__main__":
    graph = (
        Graph().add("palette", "MakePalette", first="red", second="gold").add("out", "DescribePalette", palette=Link("palette"))
    )
    with Engine(catalog=Catalog([make_palette, describe_palette])) as engine:
        assert engine.run(graph, ["out"]).value("out") == "red and gold"
        (problem,) = engine.validate(graph.add("wrong", "DescribePalette", palette=Link("out")))
        assert str(problem).endswith("cannot link out.STRING to wrong.palette: STRING is not PALETTE")
