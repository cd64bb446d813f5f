"""The commands in the documentation work and print what it says.

A block of ```console holds commands after `$ ` and lines of their output, on standard output or error, in any order;
`...` stands for anything. The commands of a page run one after the other in an empty folder beside `workflows`.
Commands other than `weft` are not run here.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest

from engine.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

PRINTS = frozenset({"run", "batch"})
"""Commands that write JSON lines where no terminal shows the output, as here."""


class Command(NamedTuple):
    """A command and some of the lines that it prints."""

    arguments: list[str]
    expected: list[str]


def commands(text: str) -> list[Command]:
    """The `weft` commands of a page."""
    found: list[Command] = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *expected = part.splitlines()
            program, *arguments = shlex.split(line)
            if program == "weft":
                found.append(Command(arguments, [e for e in expected if e != "..."]))
    return found


def matches(expected: str, line: str) -> bool:
    """Whether a line of output is what the page says."""
    pattern = ".*".join(re.escape(part) for part in expected.rstrip().split("..."))
    return re.fullmatch(pattern, line.rstrip()) is not None


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p.read_text("utf-8"))], ids=lambda p: p.name)
def test_commands_print_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("workflows", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEFT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    for command in commands(page.read_text("utf-8")):
        said = command.arguments
        status = main([*said, "--no-json"] if said[0] in PRINTS else said)
        captured = capsys.readouterr()
        printed = [*captured.out.splitlines(), *captured.err.splitlines()]
        lacking = [e for e in command.expected if not any(matches(e, line) for line in printed)]
        assert not lacking, "\n".join([f"$ weft {shlex.join(said)}", *printed])
        is_wrong = any("error[" in line for line in command.expected)
        assert status == (2 if is_wrong else 0), printed
