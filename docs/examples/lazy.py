"""A lazy input is computed only if the node asks for it."""

from engine import Catalog, Engine, Graph, Link, node
from engine.types import Lazy


@node("Either", category="logic")
def either(condition: bool, if_true: Lazy[str], if_false: Lazy[str]) -> str:
    """Pass on one of two texts; the other one is never computed.

    Args:
        condition: Which one.
        if_true: Passed on if `condition` holds.
        if_false: Passed on otherwise.
    """
    return if_true() if condition else if_false()


if __name__ == "__main__":
    graph = (
        Graph()
        .add("cheap", "PrimitiveString", value="a cat")
        .add("dear", "StringReplace", string="a dog", find="dog", replace="wolf")
        .add("out", "Either", condition=True, if_true=Link("cheap"), if_false=Link("dear"))
    )
    with Engine(catalog=Catalog.load("nodes") | Catalog([either])) as engine:
        result = engine.run(graph, ["out"])
        assert result.value("out") == "a cat"
        assert set(result.report.ran) == {"cheap", "out"}
