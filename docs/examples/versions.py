"""When the output of a node changes for equal inputs, its version goes up, and nothing old is taken for new."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from engine import Catalog, Engine, Graph, node
from engine.folders import Folders
from engine.schema import References


def notes(text: str, folders: Folders) -> Iterable[Path]:
    """The files that a text names as `note:NAME`."""
    for word in text.split():
        if word.startswith("note:"):
            path = folders.find("notes", word.removeprefix("note:"))
            if path is not None:
                yield path


@node("Shout", category="text", version=2)
def shout(text: Annotated[str, References(notes)]) -> str:
    """Put a text into capitals. Version 1 forgot the exclamation mark.

    Args:
        text: The text. The content of files that it names is part of what the result is kept under.
    """
    return text.upper() + "!"


if __name__ == "__main__":
    with Engine(catalog=Catalog([shout])) as engine:
        assert engine.run(Graph().add("out", "Shout", text="hello"), ["out"]).value("out") == "HELLO!"
