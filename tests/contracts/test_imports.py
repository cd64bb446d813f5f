"""The core is light: heavy libraries are imported by the compute column, and by functions when they run."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HEAVY = frozenset(
    {"torch", "torchsde", "numpy", "scipy", "PIL", "diffusers", "transformers", "tokenizers", "spandrel", "networkx", "rich"}
)
COMPUTE = (
    "engine/models/",
    "engine/sampling/",
    "engine/clips.py",
    "engine/media.py",
    "engine/pictures/",
    "engine/devices.py",
    "engine/sheet.py",
)
"""What handles tensors and pictures; only functions import these modules."""

MODULES = sorted(p.relative_to(ROOT).as_posix() for package in ("engine", "nodes") for p in (ROOT / package).rglob("*.py"))
CORE = [m for m in MODULES if not m.startswith(COMPUTE)]


def at_module_level(tree: ast.AST) -> Iterator[str]:
    """The packages that a module imports when it is imported: not inside functions, not for type checkers."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from at_module_level(ast.Module([other], []))
            continue
        if isinstance(child, ast.Import):
            yield from (name.name.split(".")[0] for name in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
            yield child.module.split(".")[0]
        yield from at_module_level(child)


@pytest.mark.parametrize("module", CORE)
def test_a_module_of_the_core_imports_nothing_heavy(module: str) -> None:
    assert not HEAVY & set(at_module_level(ast.parse((ROOT / module).read_text("utf-8"))))


def loaded_by(code: str) -> set[str]:
    """The heavy libraries that a fresh interpreter has loaded after running `code`."""
    program = f"{code}\nimport sys\nprint(*sorted(m for m in sys.modules if '.' not in m))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return HEAVY & set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import engine, nodes",
        "import engine.engine",
        "from engine.schema import Catalog; assert len(Catalog.load('nodes')) > 30",
        "from engine import Engine; assert not Engine().validate('workflows/portrait.json')",
        "from engine import Engine; assert len(Engine().explain('workflows/portrait.json').steps) == 7",
        (
            "from engine import Catalog, Engine\n"
            "from engine.formats.json_schema import workflow_schema\n"
            "from engine.formats.object_info import object_info\n"
            "engine = Engine()\n"
            "workflow_schema(engine.catalog, engine.folders)\n"
            "[object_info(kind, engine.folders) for kind in engine.catalog]"
        ),
    ],
    ids=["import", "engine", "catalogue", "validate", "explain", "describe"],
)
def test_what_needs_no_tensors_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) == set()
