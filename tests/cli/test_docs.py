"""Every command line in the documentation is one that the program takes."""

import re
import shlex
from pathlib import Path

import pytest

from engine.cli.app import weft as group

DOCS = Path(__file__).parents[2] / "docs"


def commands():
    for block in re.findall(r"```sh\n(.*?)```", (DOCS / "command-line.md").read_text("utf-8"), re.DOTALL):
        yield from (line for line in block.splitlines() if line.startswith("weft "))


@pytest.mark.parametrize("line", list(commands()))
def test_the_command_is_taken(line):
    _, name, *arguments = shlex.split(line)
    with group.commands[name].make_context(name, arguments):
        pass


def test_every_command_is_documented():
    text = (DOCS / "command-line.md").read_text("utf-8")
    assert [name for name in group.commands if f"weft {name}" not in text] == []
