"""A frozen graph of nodes and links. It knows no schema: kinds are names, inputs are values or links.

Edits return a new graph that shares every untouched node with the old one, so that whoever compares two versions finds
the change by identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import WeftError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import networkx as nx

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    return _NOTHING


class Link(NamedTuple):
    """Where an input gets its value: an output of another node.

    Attributes:
        node: Id of the source.
        port: Its output, by index or by name.
    """

    node: str
    port: int | str = 0


class Mode(Enum):
    """Whether a node takes part."""

    ACTIVE = 0
    MUTED = 2
    BYPASSED = 4


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A node: its kind and inputs, and what only people see.

    Attributes:
        kind: Id of the kind; it need not be installed.
        inputs: Name to a JSON value or a `Link`.
        title: What people call the node; empty means the title of its kind.
        mode: Whether it takes part.
        meta: Everything else that the file said about the node, kept for writing it back.
    """

    kind: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    mode: Mode = Mode.ACTIVE
    meta: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes by id, in the order of the file.

    Attributes:
        nodes: The nodes.
        extra: Everything else in the document, kept for writing it back (`workflow` holds the UI document of a picture).
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=_nothing)

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self.nodes)

    def __getitem__(self, node: str) -> Node:
        """The node with this id.

        Raises:
            WeftError: if there is none.
        """
        try:
            return self.nodes[node]
        except KeyError:
            msg = f"the workflow has no node {node!r}"
            raise WeftError(msg) from None

    def add(
        self, node_id: str, kind: str, inputs: Mapping[str, Any] | None = None, /, *, title: str = "", **more: Any
    ) -> Graph:
        """This graph with one more node.

        Args:
            node_id: Its id.
            kind: Id of its kind.
            inputs: Inputs by name, whatever the names are: an input called `title` can be given only here.
            title: What people call it.
            more: Further inputs by name.

        Raises:
            WeftError: if the id is taken.
        """
        if node_id in self.nodes:
            msg = f"the workflow already has a node {node_id!r}"
            raise WeftError(msg)
        return self._with(node_id, Node(kind, {**(inputs or {}), **more}, title))

    def remove(self, node_id: str) -> Graph:
        """This graph without a node and without the links from it."""
        self[node_id]
        nodes: dict[str, Node] = {}
        for key, node in self.nodes.items():
            if key == node_id:
                continue
            if any(type(v) is Link and v.node == node_id for v in node.inputs.values()):
                kept = {k: v for k, v in node.inputs.items() if type(v) is not Link or v.node != node_id}
                nodes[key] = replace(node, inputs=kept)
            else:
                nodes[key] = node
        return replace(self, nodes=nodes)

    def set(self, node_id: str, inputs: Mapping[str, Any] | None = None, /, **more: Any) -> Graph:
        """This graph with inputs of a node set to values or links.

        Args:
            node_id: The node.
            inputs: Values by name.
            more: Further values by name.
        """
        node = self[node_id]
        return self._with(node_id, replace(node, inputs={**node.inputs, **(inputs or {}), **more}))

    def unset(self, node_id: str, *names: str) -> Graph:
        """This graph with inputs of a node left to their defaults."""
        node = self[node_id]
        return self._with(node_id, replace(node, inputs={k: v for k, v in node.inputs.items() if k not in names}))

    def retitle(self, node_id: str, title: str) -> Graph:
        """This graph with a node called `title`."""
        return self._with(node_id, replace(self[node_id], title=title))

    def set_mode(self, node_id: str, mode: Mode) -> Graph:
        """This graph with a node active, muted or bypassed."""
        return self._with(node_id, replace(self[node_id], mode=mode))

    def links(self) -> Iterator[tuple[str, str, Link]]:
        """Every link as (target node, input name, link)."""
        for node_id, node in self.nodes.items():
            for name, value in node.inputs.items():
                if type(value) is Link:
                    yield node_id, name, value

    def find(self, name: str) -> str:
        """The id of the node with this id or unique title.

        Raises:
            WeftError: if there is none, or several share the title.
        """
        if name in self.nodes:
            return name
        found = [node_id for node_id, node in self.nodes.items() if name and name == node.title]
        if not found:
            found = [node_id for node_id, node in self.nodes.items() if name and name == node.kind]
        if len(found) == 1:
            return found[0]
        if found:
            msg = f"{len(found)} nodes are called {name!r}: {', '.join(found[:8])}; use an id"
            raise WeftError(msg)
        from difflib import get_close_matches

        titles = {node.title or node.kind for node in self.nodes.values()}
        near = get_close_matches(name, [*self.nodes, *titles], n=3)
        msg = f"the workflow has no node {name!r}" + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")
        raise WeftError(msg)

    @cached_property
    def digraph(self) -> nx.DiGraph[str]:
        """The links as a networkx graph, source to target. For questions off the hot path."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph()
        graph.add_nodes_from(self.nodes)
        graph.add_edges_from((link.node, target) for target, _, link in self.links() if link.node in self.nodes)
        return graph

    def cycle(self) -> tuple[str, ...] | None:
        """Node ids along some cycle, the first repeated at the end; None if there is none."""
        import networkx as nx

        try:
            edges = nx.find_cycle(self.digraph)
        except nx.NetworkXNoCycle:
            return None
        return (*(edge[0] for edge in edges), edges[0][0])

    def upstream(self, node_id: str) -> frozenset[str]:
        """Every node that `node_id` depends on."""
        import networkx as nx

        return frozenset(nx.ancestors(self.digraph, node_id))

    def downstream(self, node_id: str) -> frozenset[str]:
        """Every node that depends on `node_id`."""
        import networkx as nx

        return frozenset(nx.descendants(self.digraph, node_id))

    def _with(self, node_id: str, node: Node) -> Graph:
        nodes = dict(self.nodes)
        nodes[node_id] = node
        return replace(self, nodes=nodes)
