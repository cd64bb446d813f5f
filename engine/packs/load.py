"""Folders of packs to kinds. A pack that cannot be imported is named, and harms nothing."""

from __future__ import annotations

import hashlib
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.packs.classes import kind_of_class, settled
from engine.packs.importing import import_pack
from engine.packs.scene import World, entered
from engine.packs.schemas import class_of_schema
from engine.schema import Catalog, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from types import ModuleType

    from engine.folders import Folders


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack, and what became of it.

    Attributes:
        name: Name of its folder or file.
        path: Where it is.
        kinds: Ids of the kinds that it brings.
        seconds: How long importing it took.
        error: Why it could not be imported, or None.
        warnings: What is wrong with single kinds.
    """

    name: str
    path: Path
    kinds: tuple[str, ...]
    seconds: float
    error: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Loaded:
    """Weft's kinds with those of packs, and the packs.

    Attributes:
        catalog: All kinds.
        packs: The packs, in the order in which they were imported.
    """

    catalog: Catalog
    packs: tuple[Pack, ...]

    @property
    def warnings(self) -> Iterator[str]:
        """What is wrong with packs, a line each."""
        for pack in self.packs:
            if pack.error is not None:
                yield f"the pack {pack.name} is left out: {pack.error}"
            yield from (f"the pack {pack.name}: {warning}" for warning in pack.warnings)


def load(directories: Iterable[Path], folders: Folders, base: Catalog) -> Loaded:
    """The kinds of the packs in some folders.

    Args:
        directories: Folders of packs.
        folders: Where the packs find models, inputs and outputs.
        base: The kinds that no pack may replace.
    """
    world = World(folders, base)
    kinds = {kind.id: kind for kind in base}
    packs = [_loaded(path, world, kinds, base) for directory in directories for path in _found(directory)]
    world.catalog = Catalog(kinds.values())
    return Loaded(world.catalog, tuple(packs))


def _found(directory: Path) -> list[Path]:
    """The packs in a folder, by name."""
    if not directory.is_dir():
        return []
    return sorted(
        path
        for path in directory.iterdir()
        if path.name != "__pycache__"
        and not path.name.endswith(".disabled")
        and ((path / "__init__.py").is_file() or (path.suffix == ".py" and path.is_file()))
    )


def _loaded(path: Path, world: World, kinds: dict[str, Kind], base: Catalog) -> Pack:
    """Import a pack and add its kinds to `kinds`."""
    started = time.perf_counter()
    warnings: list[str] = []
    names: list[str] = []
    try:
        with entered(world):
            module = import_pack(path)
            version = _version(path)
            for name, title, class_ in _classes(module):
                if name in kinds:
                    owner = "Weft" if name in base else kinds[name].module
                    warnings.append(f"its kind {name!r} is left out, since {owner} has one of that name")
                    continue
                kind = _kind(name, class_, title, path.stem, version, world, warnings)
                if kind is not None:
                    kinds[name] = kind
                    names.append(name)
        if not names and not warnings:
            warnings.append("it declares no nodes (neither NODE_CLASS_MAPPINGS nor comfy_entrypoint gives any)")
    except (Exception, SystemExit) as cause:  # noqa: BLE001 - the code of a pack may raise anything
        return Pack(path.name, path, (), time.perf_counter() - started, _told(cause, path))
    return Pack(path.name, path, tuple(names), time.perf_counter() - started, None, tuple(warnings))


def _classes(module: ModuleType) -> Iterator[tuple[str, str | None, Any]]:
    """(id, title, class) of the nodes that a pack declares."""
    titles = getattr(module, "NODE_DISPLAY_NAME_MAPPINGS", None) or {}
    for name, class_ in dict(getattr(module, "NODE_CLASS_MAPPINGS", None) or {}).items():
        yield name, titles.get(name), class_
    entry = getattr(module, "comfy_entrypoint", None)
    if entry is not None:
        extension = settled(entry())
        settled(extension.on_load())
        yield from (class_of_schema(node) for node in settled(extension.get_node_list()))


def _version(path: Path) -> int:
    """A number that changes with the Python files of a pack."""
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    hasher = hashlib.blake2b(digest_size=6)
    for file in files:
        hasher.update(hashlib.sha256(file.read_bytes()).digest())
    return int.from_bytes(hasher.digest())


def _kind(name: str, class_: Any, title: Any, pack: str, version: int, world: World, warnings: list[str]) -> Kind | None:
    """The kind of one class; None, with a warning, where its declaration cannot be read."""
    try:
        return kind_of_class(str(name), class_, str(title or name), f"custom_nodes.{pack}", world, version=version)
    except Exception as cause:  # noqa: BLE001 - the code of a pack may raise anything
        warnings.append(f"its kind {name!r} is left out: {type(cause).__name__}: {cause}")
        return None


def _told(cause: BaseException, path: Path) -> str:
    """What went wrong, and where in the pack."""
    where = ""
    for frame in traceback.extract_tb(cause.__traceback__):
        if frame.filename.startswith(str(path.resolve())):
            where = f" ({frame.filename}:{frame.lineno})"
    return f"{type(cause).__name__}: {cause}{where}"
