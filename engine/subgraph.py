"""A subgraph that a node became: made unique, bound to the values it was given, and keyed.

A value that the node was given keeps its identity, so that the parts of the subgraph have keys that name the same work in
every process. A value that nothing can name gets an identity of its own: it runs again rather than lies.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

from engine.cache.values import Listed
from engine.errors import UnencodableValue
from engine.fingerprint import Bound, FileDigests, canonical, keys
from engine.graph import Graph, Link, Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.validate import Checked, CheckedNode

_LITERALS = frozenset({int, float, bool, str, type(None), Bound})


def prefixed(graph: Graph, prefix: str, identities: Mapping[int, bytes], files: FileDigests) -> Graph:
    """A subgraph with its ids made unique and the values that it holds bound to their identities."""
    nodes: dict[str, Node] = {}
    for node_id, node in graph.nodes.items():
        inputs: dict[str, Any] = {}
        for name, value in node.inputs.items():
            if type(value) is Link:
                inputs[name] = Link(prefix + value.node, value.port) if value.node in graph.nodes else value
            elif type(value) in _LITERALS:
                inputs[name] = value
            else:
                identity = identities.get(id(value))
                inputs[name] = Bound(value, identity if identity is not None else _identity(value, files))
        nodes[prefix + node_id] = replace(node, inputs=inputs)
    return Graph(nodes)


_unnamed = count()


def _identity(value: Any, files: FileDigests) -> bytes:
    """Canonical bytes of a value; bytes that nothing else has where there are none, so that it runs rather than lies."""
    try:
        return canonical(value, files)
    except UnencodableValue:
        return b"?%d;%d;" % (time.time_ns(), next(_unnamed))


def subgraph_keys(checked: Checked, outer: Mapping[str, bytes], files: FileDigests, salt: bytes) -> dict[str, bytes]:
    """The key of every node of a checked subgraph whose links may lead to nodes around it."""
    around = {source: outer[source] for node in checked.nodes.values() for source, _ in node.links.values() if source in outer}
    found = keys(checked, files, salt=salt, outer=around)
    return {i: found[i] for i in checked.nodes}


def unbind(nodes: Iterable[CheckedNode]) -> None:
    """Put values in the place of their bindings, now that the keys are known."""
    for node in nodes:
        for name, value in node.literals.items():
            if type(value) is Bound:
                port = node.kind.inputs.get(name)
                is_list = port is not None and port.whole_list and isinstance(value.value, list)
                node.literals[name] = Listed(value.value) if is_list else value.value
