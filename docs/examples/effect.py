"""An effect runs every time, and is an output of the workflow: it writes, sends or shows something."""

import tempfile
from pathlib import Path

from engine import Catalog, Engine, Graph, Link, node
from engine.folders import confine
from engine.types import Run, SavedFile, Shown


@node("WriteText", category="text", effect=True)
def save_text(text: str, filename: str, run: Run) -> Shown:
    """Write a text file into the output folder.

    Args:
        text: What to write.
        filename: Its name.
        run: Knows the output folder.
    """
    path = confine(run.folders.output, filename)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.tmp")
    scratch.write_text(text, "utf-8")
    scratch.replace(path)  # whole or not at all
    return Shown({"text": (text,), "files": (SavedFile(path, path.name, "", "output"),)})


if __name__ == "__main__":
    graph = (
        Graph().add("text", "PrimitiveString", value="hello").add("out", "WriteText", text=Link("text"), filename="hello.txt")
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Engine(catalog=Catalog.load("nodes") | Catalog([save_text]), output_dir=folder) as engine,
    ):
        result = engine.run(graph)
        assert result.files == (Path(folder) / "hello.txt",)
        assert result.files[0].read_text() == "hello"
        assert engine.run(graph).report["out"].reason == "effect"  # it ran again, `text` did not
