"""Lists: a node that gives one makes the nodes below it run once for each element; a node that takes one is called once."""

from engine import Catalog, Engine, Graph, Link, node


@node("Words", category="text")
def words(text: str) -> list[str]:
    """Split a text into its words.

    Args:
        text: The text.
    """
    return text.split()


@node("Join", category="text")
def join(texts: list[str], delimiter: str = ", ") -> str:
    """Put the elements of a list together.

    Args:
        texts: All of them at once.
        delimiter: What stands between them.
    """
    return delimiter.join(texts)


if __name__ == "__main__":
    graph = (
        Graph()
        .add("words", "Words", text="red green blue")
        .add("loud", "CaseConverter", string=Link("words"), mode="UPPERCASE")
        .add("out", "Join", texts=Link("loud"))
    )
    with Engine(catalog=Catalog.load("nodes") | Catalog([words, join])) as engine:
        result = engine.run(graph, ["loud", "out"])
        assert result.value("loud") == ("RED", "GREEN", "BLUE")
        assert result.value("out") == "RED, GREEN, BLUE"
