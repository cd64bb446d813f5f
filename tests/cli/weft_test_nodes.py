"""Nodes for the tests of the command line, loaded by `WEFT_NODES`: torch-free, slow or failing on request."""

import time
from pathlib import Path
from typing import Annotated

from engine.schema import Range, node
from engine.types import Run, SavedFile, Shown


@node("TestSeeded", category="test")
def seeded(*, text: str = "", seed: Annotated[int, Range(0, 2**64 - 1)] = 0, factor: float = 1.0, upper: bool = False) -> str:
    """Text that tells what it was made of.

    Args:
        text: Its first part.
        seed: Its second part.
        factor: Its third part.
        upper: Whether it is in capitals.
    """
    time.sleep(0.01)  # long enough to be kept on the disk
    made = f"{text}|{seed}|{factor}"
    return made.upper() if upper else made


@node("TestWrite", category="test", effect=True)
def write(*, text: str, filename_prefix: str = "text", run: Run) -> Shown:
    """Write a text file.

    Args:
        text: What it holds.
        filename_prefix: What it is called.
        run: Knows the output folder.
    """
    folder = run.folders.output
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (folder / f"{filename_prefix}_{number:05}_.txt").exists():
        number += 1
    path = folder / f"{filename_prefix}_{number:05}_.txt"
    path.write_text(text, "utf-8")
    return Shown({"files": (SavedFile(path, path.name, "", "output"),)})


@node("TestFail", category="test")
def fail(*, text: str) -> str:
    """Fail.

    Args:
        text: Part of the complaint.
    """
    msg = f"cannot do {text}"
    raise ValueError(msg)


@node("TestWait", category="test")
def wait(*, text: str = "", flag: str = "", steps: int = 100_000, run: Run) -> str:
    """Wait, step by step.

    Args:
        text: What comes out.
        flag: A file that is written as soon as it waits.
        steps: How many steps of 10 ms.
        run: Takes the progress.
    """
    if flag:
        Path(flag).write_text("waiting", "utf-8")
    for i in range(steps):
        time.sleep(0.01)
        run.progress(i + 1, steps)
    return text


@node("TestBlock", category="test")
def block(*, flag: str) -> str:
    """Wait for ever, deaf to requests to stop.

    Args:
        flag: A file that is written as soon as it waits.
    """
    Path(flag).write_text("waiting", "utf-8")
    time.sleep(3600)
    return flag
