"""Files that do not belong together, found in their headers before anything runs.

Port types say that a value is a `MODEL`; which family it is of is a fact of the file that it comes from. A kind that reads
such a file says how to learn its facts (`FileChoice.tell`), a kind that needs values of one family says which inputs
(`@node(alike=...)`). Facts follow the links: from a loader to what patches its model, from a text encoder to the
conditioning that it makes (`types.CARRIED`). Headers are read only where two different files meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.types import CARRIED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from engine.types import Facts
    from engine.validate import CheckedNode

    Source = tuple[Callable[[Path], "Facts | None"], Path, frozenset[str]]
    """How to learn the facts of a file, the file, and those of them that a value carries."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Two inputs of a node whose files do not belong together.

    Attributes:
        node: Id of the node.
        ports: The inputs.
        files: Where their values come from.
        titles: What those files are.
        fact: What differs.
        values: In what.
    """

    node: str
    ports: tuple[str, str]
    files: tuple[Path, Path]
    titles: tuple[str, str]
    fact: str
    values: tuple[Any, Any]


def mismatches(nodes: Mapping[str, CheckedNode]) -> Iterator[Mismatch]:
    """The first mismatch of every node that has one.

    Args:
        nodes: Sound nodes in topological order.
    """
    if not any(node.kind.alike for node in nodes.values()):
        return
    sources: dict[tuple[str, int], Source | None] = {}
    for node_id, node in nodes.items():
        for i, output in enumerate(node.kind.outputs):
            if output.type in CARRIED:
                sources[node_id, i] = _source(node, output.type, sources)
        found = [(name, source) for name in node.kind.alike if (source := _given(node, name, sources)) is not None]
        if len({path for _, (_, path, _) in found}) > 1:
            mismatch = _mismatch(node_id, found)
            if mismatch is not None:
                yield mismatch


def _source(node: CheckedNode, type_: str, sources: Mapping[tuple[str, int], Source | None]) -> Source | None:
    """Where an output gets its facts from: an input of its type, the node's own file, or what else carries them."""
    keys = CARRIED[type_]
    linked = [(node.kind.inputs.get(name), sources.get(link)) for name, link in node.links.items()]
    same = [source for port, source in linked if port is not None and port.type == type_ and source is not None]
    own = [_own(node, name) for name in node.kind.inputs] if not any(p and p.type == type_ for p, _ in linked) else []
    others = [source for _, source in linked if source is not None]
    for source in (*same, *own, *others):
        if source is not None and keys & source[2]:
            return source[0], source[1], keys & source[2]
    return None


def _given(node: CheckedNode, name: str, sources: Mapping[tuple[str, int], Source | None]) -> Source | None:
    """Where the value of an input comes from."""
    link = node.links.get(name)
    return _own(node, name) if link is None else sources.get(link)


def _own(node: CheckedNode, name: str) -> Source | None:
    port, path = node.kind.inputs[name], node.literals.get(name)
    if port.files is None or port.files.tell is None or path is None or isinstance(path, str | tuple):
        return None
    return port.files.tell, path, frozenset().union(*CARRIED.values())


def _mismatch(node_id: str, found: list[tuple[str, Source]]) -> Mismatch | None:
    seen: dict[str, tuple[str, Path, str, Any]] = {}
    for name, (tell, path, keys) in found:
        facts = tell(path)
        if facts is None:
            continue
        for fact in sorted(keys & facts.values.keys()):
            value = facts.values[fact]
            if fact not in seen:
                seen[fact] = (name, path, facts.title, value)
            elif seen[fact][3] != value:
                before, other, title, known = seen[fact]
                return Mismatch(node_id, (before, name), (other, path), (title, facts.title), fact, (known, value))
    return None
