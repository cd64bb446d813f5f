"""How packs are imported: as modules of their own, with a `__import__` of their own.

Packs import modules of the program that they were written for: `folder_paths`, `comfy.utils`, `nodes`. They get Weft's
small modules under those names, and nobody else does: their code runs with builtins whose `__import__` looks into
`SURFACE` first. What a pack imports from its own folder is executed in the same way. Nothing is put into `sys.modules`
but the pack's own modules, as `weft_packs.<name>`.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = "weft_packs"
"""The package that packs are imported into."""

SURFACE: Mapping[str, str] = {
    "comfy": "",
    "comfy.cli_args": "cli_args",
    "comfy.comfy_types": "comfy_types",
    "comfy.comfy_types.node_typing": "comfy_types",
    "comfy.model_management": "model_management",
    "comfy.sample": "sample",
    "comfy.samplers": "samplers",
    "comfy.sd": "sd",
    "comfy.utils": "comfy_utils",
    "comfy_api": "",
    "comfy_api.latest": "latest",
    "comfy_api.latest.io": "io",
    "comfy_api.latest.ui": "ui",
    "comfy_api.v0_0_2": "latest",
    "comfy_execution": "",
    "comfy_execution.graph": "graph",
    "comfy_execution.graph_utils": "graph",
    "folder_paths": "folder_paths",
    "nodes": "nodes",
    "server": "server",
}
"""Names that packs import to modules of `engine.packs.surface`; empty for mere packages."""

_TOPS = frozenset(name.split(".", maxsplit=1)[0] for name in SURFACE)


class _Package(ModuleType):
    """A package of the surface: its modules are found as attributes whether they were imported or not."""

    def __getattr__(self, name: str) -> Any:
        """The module `name` of this package."""
        full = f"{self.__name__}.{name}"
        if full not in SURFACE:
            msg = f"Weft has no {full}"
            raise AttributeError(msg)
        return provided(full)


_packages: dict[str, _Package] = {}


def provided(name: str) -> ModuleType:
    """The module that packs get under a name.

    Raises:
        ModuleNotFoundError: if Weft has none.
    """
    where = SURFACE.get(name)
    if where is None:
        msg = f"Weft has no module {name!r} for packs"
        raise ModuleNotFoundError(msg, name=name)
    if not where:
        return _packages.setdefault(name, _Package(name))
    return importlib.import_module(f"engine.packs.surface.{where}")


def _import(
    name: str,
    globals_: Mapping[str, Any] | None = None,
    locals_: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """`__import__` of packs."""
    top = name.split(".", maxsplit=1)[0]
    if level or top not in _TOPS:
        return builtins.__import__(name, globals_, locals_, fromlist or (), level)
    module = provided(name)
    for item in fromlist or ():
        if item != "*" and not hasattr(module, item):
            msg = f"Weft has no {name}.{item} for packs"
            raise ImportError(msg, name=name)
    return module if fromlist else provided(top)


def _builtins() -> dict[str, Any]:
    """The builtins of packs: imports are theirs, and what they print does not mix with the results of a program."""
    mine = dict(vars(builtins))
    mine["__import__"] = _import

    def show(*values: object, **options: Any) -> None:
        print(*values, **{"file": sys.stderr, **options})  # noqa: T201 - this is the print of packs

    mine["print"] = show
    return mine


class _Loader(SourceFileLoader):
    """Executes a module with the builtins of packs."""

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module."""
        vars(module)["__builtins__"] = _builtins()
        super().exec_module(module)


class _Finder:
    """Finds the modules inside the folders of packs, also those that packs reach through `sys.path`."""

    def __init__(self) -> None:
        self.roots: set[Path] = set()

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of a module of a pack; None for all others."""
        entries = sys.path if path is None else path
        mine = [entry for entry in entries if entry and self._holds(entry)]
        if not mine:
            return None
        spec = PathFinder.find_spec(name, mine if path is None else path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader) and self._holds(spec.loader.path):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec if path is not None or (spec is not None and spec.origin) else None

    def _holds(self, entry: str) -> bool:
        path = Path(entry)
        return any(path.is_relative_to(root) for root in self.roots)


_finder = _Finder()


def import_pack(path: Path) -> ModuleType:
    """Import a pack afresh.

    Args:
        path: A folder with `__init__.py`, or a `.py` file.

    Raises:
        Exception: whatever its code raises.
    """
    place = path.resolve()
    file = place / "__init__.py" if place.is_dir() else place
    root = sys.modules.setdefault(ROOT, ModuleType(ROOT))
    root.__path__ = []
    name = f"{ROOT}.{path.stem.replace('.', '_')}"
    for known in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        del sys.modules[known]
    if place.is_dir():
        _finder.roots.add(place)
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
    spec = importlib.util.spec_from_file_location(
        name, file, loader=_Loader(name, str(file)), submodule_search_locations=[str(place)] if place.is_dir() else None
    )
    assert spec is not None  # noqa: S101 - there is a loader
    assert spec.loader is not None  # noqa: S101 - the same
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for known in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            del sys.modules[known]
        raise
    return module
