"""Topological order without recursion, and what a cycle keeps out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from engine.graph import Graph
    from engine.validate import CheckedNode


def ordered(nodes: Mapping[str, CheckedNode], context: Mapping[str, CheckedNode]) -> tuple[dict[str, CheckedNode], list[str]]:
    """Sound nodes in topological order, depth first, without recursion; and ids that a cycle keeps out.

    Nodes that depend on an unsound node are left out as well.
    """
    consumed: set[str] = set()
    for node in nodes.values():
        for source, _ in node.links.values():
            consumed.add(source)
    ordered: dict[str, CheckedNode] = {}
    unsound: set[str] = set()
    opened: set[str] = set()
    roots = [i for i in nodes if i not in consumed]
    for root_set in (roots, nodes):  # the second pass reaches what only a cycle consumes
        for root in root_set:
            if root in ordered or root in unsound or root in opened:
                continue
            stack = [root]
            while stack:
                node_id = stack[-1]
                if node_id in ordered or node_id in unsound:
                    stack.pop()
                    continue
                node = nodes[node_id]
                links = node.links
                if node_id in opened:
                    stack.pop()
                    is_sound = True
                    for source, _ in links.values():
                        if source not in ordered and source not in context:
                            is_sound = False
                    if is_sound:
                        ordered[node_id] = node
                    else:
                        unsound.add(node_id)
                    continue
                opened.add(node_id)
                for source, _ in links.values():
                    if source in ordered or source in opened or source in context:
                        continue
                    if source in nodes:
                        stack.append(source)
    return ordered, _cyclic(nodes, ordered) if len(ordered) < len(nodes) else []


def cycles(graph: Graph) -> Iterator[tuple[str, ...]]:
    """A cycle in each group of nodes that all lead to each other: ids along it, the first repeated at the end."""
    import networkx as nx

    links = graph.digraph
    for group in nx.strongly_connected_components(links):
        if len(group) > 1 or any(links.has_edge(node_id, node_id) for node_id in group):
            edges = nx.find_cycle(links.subgraph(group))
            yield (*(edge[0] for edge in edges), edges[0][0])


def _cyclic(nodes: Mapping[str, CheckedNode], ordered: Mapping[str, CheckedNode]) -> list[str]:
    """Of the nodes that are not in order, those on or between cycles: what is left after peeling off the ends."""
    left = {
        i: {s for s, _ in n.links.values() if s in nodes and s not in ordered} for i, n in nodes.items() if i not in ordered
    }
    broken = [i for i, sources in left.items() if not sources]
    children: dict[str, list[str]] = {}
    for node_id, sources in left.items():
        for source in sources:
            children.setdefault(source, []).append(node_id)
    while broken:
        gone = broken.pop()
        left.pop(gone, None)
        for child in children.get(gone, ()):
            if child in left:
                left[child].discard(gone)
                if not left[child]:
                    broken.append(child)
    return list(left)
