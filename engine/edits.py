"""Edits that people name in one line: `NODE.INPUT=VALUE`, a seed for every node that has one.

Pure functions from a graph to a graph; the command line and batches share them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.errors import WeftError
from engine.graph import Graph, Link

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.schema import Catalog, Input

SEED_INPUTS = frozenset({"seed", "noise_seed"})
"""Names of inputs that hold a seed."""

SEED_LIMIT = 1 << 64
"""Seeds are below this."""

_TEXT_TYPES = frozenset({"STRING", "COMBO"})


class Place(NamedTuple):
    """An input of a node of a workflow.

    Attributes:
        node: Id of the node.
        input: Name of the input.
    """

    node: str
    input: str

    def __str__(self) -> str:
        """As people write it."""
        return f"{self.node}.{self.input}"


def place(graph: Graph, catalog: Catalog, text: str) -> Place:
    """The input that `NODE.INPUT` means; NODE is an id or a unique title, and may hold dots itself.

    Raises:
        WeftError: if there is no such node or input; the message names the nearest.
    """
    splits = [(text[:i], text[i + 1 :]) for i, c in enumerate(text) if c == "." and 0 < i < len(text) - 1]
    if not splits:
        msg = f"{text!r} is not NODE.INPUT"
        raise WeftError(msg)
    found: list[Place] = []
    error: WeftError | None = None
    for name, port in splits:
        try:
            found.append(Place(graph.find(name), port))
        except WeftError as cause:
            error = cause
    if not found:
        assert error is not None  # noqa: S101 - every split failed
        raise error
    for candidate in found:
        if _port(graph, catalog, candidate) is not None or candidate.input in graph[candidate.node].inputs:
            return candidate
    first = found[0]
    kind = catalog.get(graph[first.node].kind)
    if kind is None:
        return first  # validation says that the kind is not installed
    from difflib import get_close_matches

    near = get_close_matches(first.input, kind.inputs, n=3, cutoff=0.5) or list(kind.inputs)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    msg = f"node {first.node} ({kind.id}) has no input {first.input!r}{hint}"
    raise WeftError(msg)


def value(text: str, port: Input | None) -> Any:
    """The value that `text` means for a port: JSON if it is JSON, else the text itself.

    A port for texts takes everything as text except a text in quotes. An array of a node id and a number is a link.
    """
    try:
        parsed = json.loads(text)
    except ValueError:
        return text
    if port is not None and _TEXT_TYPES.issuperset(port.type.split(",")) and not isinstance(parsed, str):
        return text
    return linked(parsed)


def linked(parsed: Any) -> Any:
    """A JSON value with an array of a node id and a number taken as a link."""
    match parsed:
        case [str() as node, int() as output] if not isinstance(output, bool) and output >= 0:
            return Link(node, output)
        case _:
            return parsed


def assigned(graph: Graph, catalog: Catalog, text: str) -> tuple[Place, Any]:
    """What `NODE.INPUT=VALUE` means.

    Raises:
        WeftError: if it is no assignment, or names no input.
    """
    left, equals, right = text.partition("=")
    if not equals:
        msg = f"{text!r} is not NODE.INPUT=VALUE"
        raise WeftError(msg)
    where = place(graph, catalog, left.strip())
    return where, value(right, _port(graph, catalog, where))


def typed(graph: Graph, catalog: Catalog, where: Place, text: str) -> Any:
    """The value that `text` means at a place, see `value`."""
    return value(text, _port(graph, catalog, where))


def edited(graph: Graph, assignments: Mapping[Place, Any]) -> Graph:
    """The graph with inputs set."""
    for where, new in assignments.items():
        graph = graph.set(where.node, {where.input: new})
    return graph


def seeds(graph: Graph, catalog: Catalog) -> dict[Place, int]:
    """Every seed that is not linked, with its value."""
    found: dict[Place, int] = {}
    for node_id, node in graph.nodes.items():
        kind = catalog.get(node.kind)
        names = SEED_INPUTS & (kind.inputs.keys() if kind is not None else node.inputs.keys())
        for name in sorted(names):
            given = node.inputs.get(name, kind.inputs[name].default if kind is not None else 0)
            if type(given) is not Link:
                found[Place(node_id, name)] = int(given) if isinstance(given, int | float) else 0
    return found


def reseeded(graph: Graph, catalog: Catalog, seed: int) -> Graph:
    """The graph with every seed that is not linked set to `seed`.

    Raises:
        WeftError: if it has none.
    """
    return edited(graph, dict.fromkeys(_some_seeds(graph, catalog), seed % SEED_LIMIT))


def advanced(graph: Graph, catalog: Catalog, steps: int) -> Graph:
    """The graph with every seed that is not linked moved on by `steps`.

    Raises:
        WeftError: if it has none.
    """
    if not steps:
        return graph
    return edited(graph, {p: (s + steps) % SEED_LIMIT for p, s in _some_seeds(graph, catalog).items()})


def _some_seeds(graph: Graph, catalog: Catalog) -> dict[Place, int]:
    found = seeds(graph, catalog)
    if not found:
        msg = "the workflow has no seed of its own (an input called seed or noise_seed that is not linked)"
        raise WeftError(msg)
    return found


def _port(graph: Graph, catalog: Catalog, where: Place) -> Input | None:
    node = graph[where.node]
    kind = catalog.get(node.kind)
    return None if kind is None else kind.chosen(node.inputs).inputs.get(where.input, kind.variadic)
