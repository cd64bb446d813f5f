"""Any number of named inputs: `**name: Type`."""

from engine import Catalog, Engine, Graph, Link, node


@node("Template", category="text")
def template(text: str, **parts: str) -> str:
    """Fill in a text: `{name}` becomes the input of that name.

    Args:
        text: The text.
        parts: What to fill in.
    """
    return text.format(**parts)


if __name__ == "__main__":
    graph = (
        Graph()
        .add("colour", "PrimitiveString", value="red")
        .add("out", "Template", text="a {colour} {thing}", colour=Link("colour"), thing="hat")
    )
    with Engine(catalog=Catalog.load("nodes") | Catalog([template])) as engine:
        assert engine.run(graph, ["out"]).value("out") == "a red hat"
