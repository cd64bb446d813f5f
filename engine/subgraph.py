"""A subgraph that a node became: made unique, bound to the values it was given, checked and keyed.

A value that the node was given keeps its identity, so that the parts of the subgraph have keys that name the same work in
every process. A value that nothing can name gets an identity of its own: it runs again rather than lies.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from engine.cache.values import Listed
from engine.errors import Problem, UnencodableValue, WeftError, WorkflowInvalid
from engine.fingerprint import Bound, FileDigests, canonical, keys, link_identity
from engine.graph import Graph, Link, Node
from engine.validate import check

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from engine.folders import Folders
    from engine.schema import Catalog
    from engine.types import Expansion
    from engine.validate import Checked, CheckedNode

_LITERALS = frozenset({int, float, bool, str, type(None), Bound})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a subgraph is made in.

    Attributes:
        nodes: The nodes around it, which its links may lead to.
        keys: Their keys.
        identities: Canonical bytes of the values that its node was given, by object identity.
        catalog: The kinds that it may use.
        folders: Where files are.
        files: Their digests.
        salt: What every key starts with.
    """

    nodes: Mapping[str, CheckedNode]
    keys: Mapping[str, bytes]
    identities: Mapping[int, bytes]
    catalog: Catalog
    folders: Folders
    files: FileDigests
    salt: bytes


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A subgraph that can be run.

    Attributes:
        checked: Its nodes, under ids that nobody else has.
        keys: Their keys.
        outputs: For each output of the node that became it a link or a value.
        targets: Ids of its nodes that have to run: those that the outputs lead to, and its effects.
    """

    checked: Checked
    keys: dict[str, bytes]
    outputs: tuple[Any, ...]
    targets: tuple[str, ...]


def prepared(expansion: Expansion, parent: CheckedNode, number: int, around: Surroundings) -> Subgraph:
    """Check and key what a call of `parent` returned.

    Args:
        expansion: What it returned.
        parent: The node that becomes the subgraph.
        number: Which of its calls it was.
        around: What the subgraph is made in.

    Raises:
        WorkflowInvalid: if the subgraph cannot run.
        WeftError: if it takes ids that exist already.
    """
    prefix = f"{parent.id}.{number}."
    graph = _prefixed(expansion.graph, prefix, around)
    clash = next((node_id for node_id in graph.nodes if node_id in around.nodes), None)
    if clash is not None:
        msg = f"{parent.kind.id} made a subgraph with the id {clash!r}, which exists already"
        raise WeftError(msg)
    checked = check(graph, around.catalog, around.folders, context=around.nodes)
    problems = [problem for problem in checked.problems if not problem.warning]
    outputs: list[Any] = []
    targets: list[str] = []
    for value in expansion.outputs:
        if type(value) is not Link:
            outputs.append(value)
            continue
        is_inside = value.node in expansion.graph.nodes
        source = prefix + value.node if is_inside else value.node
        if source not in (checked.nodes if is_inside else around.nodes) and not problems:
            message = f"an output of the subgraph is linked to node {value.node!r}, which does not run"
            problems.append(Problem("missing-node", message, node=source))
        outputs.append(Link(source, value.port))
        if is_inside:
            targets.append(source)
    if problems:
        raise WorkflowInvalid(problems, source=f"subgraph of {parent.kind.id}")
    outer = {
        source: around.keys[source]
        for node in checked.nodes.values()
        for source, _ in node.links.values()
        if source in around.keys
    }
    found = keys(checked, around.files, salt=around.salt, outer=outer)
    _unbind(checked.nodes.values())
    targets.extend(checked.effects)
    return Subgraph(checked, {i: found[i] for i in checked.nodes}, tuple(outputs), tuple(dict.fromkeys(targets)))


def identities(node: CheckedNode, keys_: Mapping[str, bytes], values: Mapping[bytes, tuple[Any, ...]]) -> dict[int, bytes]:
    """Canonical bytes for each value that a node was given through a link, by object identity."""
    known: dict[int, bytes] = {}
    for source, port in node.links.values():
        key = keys_[source]
        if key not in values:
            continue
        value = values[key][port]
        known[id(value)] = link_identity(key, port)
        if type(value) is Listed:
            for i, element in enumerate(value):
                known.setdefault(id(element), link_identity(key, port, i))
    return known


def _prefixed(graph: Graph, prefix: str, around: Surroundings) -> Graph:
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
                identity = around.identities.get(id(value))
                inputs[name] = Bound(value, identity if identity is not None else _identity(value, around.files))
        nodes[prefix + node_id] = replace(node, inputs=inputs)
    return Graph(nodes)


_unnamed = count()


def _identity(value: Any, files: FileDigests) -> bytes:
    """Canonical bytes of a value; bytes that nothing else has where there are none, so that it runs rather than lies."""
    try:
        return canonical(value, files)
    except UnencodableValue:
        return b"?%d;%d;" % (time.time_ns(), next(_unnamed))


def _unbind(nodes: Iterable[CheckedNode]) -> None:
    """Put values in the place of their bindings, now that the keys are known."""
    for node in nodes:
        for name, value in node.literals.items():
            if type(value) is Bound:
                port = node.kind.inputs.get(name)
                is_list = port is not None and port.whole_list and isinstance(value.value, list)
                node.literals[name] = Listed(value.value) if is_list else value.value
