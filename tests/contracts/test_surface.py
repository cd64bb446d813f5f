"""What `from engine import ...` offers is what is exported and what the documentation names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import engine

ROOT = Path(__file__).parents[2]


def test_every_public_name_resolves_and_has_a_docstring() -> None:
    for name in engine.__all__:
        assert getattr(engine, name).__doc__, name


def test_nothing_else_is_offered() -> None:
    code = "import engine; print(*sorted(n for n in vars(engine) if not n.startswith('_')))"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert set(shown) <= {"annotations", "importlib", "TYPE_CHECKING", "Any"}
    assert sorted(engine.__all__) == sorted(engine._HOMES)


def test_the_type_checker_sees_the_same_names() -> None:
    tree = ast.parse(Path(engine.__file__).read_text("utf-8"))
    guarded = next(n for n in tree.body if isinstance(n, ast.If))
    seen = {alias.name for n in guarded.body if isinstance(n, ast.ImportFrom) for alias in n.names}
    assert seen == set(engine.__all__)


def test_the_reference_lists_every_name() -> None:
    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(engine.__all__)
