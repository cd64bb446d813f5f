"""What the code of packs may ask for while it runs: folders, kinds, and the run that it is part of.

Packs expect modules that know everything. Here those modules look into the scene, which is entered around every piece of
a pack's code: its import, its declarations, its calls. Threads that a pack starts by itself see the scene of its import.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import WeftError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.folders import Folders
    from engine.schema import Catalog


@dataclass
class World:
    """What all packs of a catalogue share.

    Attributes:
        folders: Where models, inputs and outputs are.
        catalog: The kinds; those of packs are among them once all are imported.
        added: Model folders that packs made known: key to paths.
        extensions: Suffixes of the files in those folders; any when empty.
    """

    folders: Folders
    catalog: Catalog
    added: dict[str, list[Path]] = field(default_factory=dict)
    extensions: dict[str, set[str]] = field(default_factory=dict)


class Scene(NamedTuple):
    """What the code of a pack is part of.

    Attributes:
        world: What all packs share.
        run: The handle of the run, where there is one: a `Run` with the attribute `nodes`.
        graphs: Numbers the subgraphs that the code makes.
    """

    world: World
    run: Any
    graphs: Iterator[int]

    @property
    def folders(self) -> Folders:
        """The folders of the run, else those of the world."""
        folders: Folders = self.world.folders if self.run is None else self.run.folders
        return folders


_scene: ContextVar[Scene | None] = ContextVar("scene", default=None)
_last: list[Scene] = []


@contextmanager
def entered(world: World, run: Any = None) -> Iterator[None]:
    """The scene for the code of a pack."""
    token = _scene.set(Scene(world, run, count()))
    _last[:] = [Scene(world, None, count())]
    try:
        yield
    finally:
        _scene.reset(token)


def scene() -> Scene:
    """The scene of whoever asks; for threads of packs the last one, without its run.

    Raises:
        WeftError: if no pack was ever loaded.
    """
    found = _scene.get()
    if found is not None:
        return found
    if not _last:
        msg = "only node packs use these modules, and none is loaded"
        raise WeftError(msg)
    return _last[0]
