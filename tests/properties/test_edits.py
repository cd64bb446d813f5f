"""Any sequence of edits and partial runs gives what a fresh run gives; ids and order never matter."""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Catalog, Engine, Graph, Link, Mode, node
from engine.formats.api import read_api, write_api
from engine.types import Expansion, Lazy


@node("Leaf")
def leaf(value: Any = 0) -> Any:
    """A constant.

    Args:
        value: It.
    """
    return (type(value).__name__, repr(value))


@node("Mix")
def mix(a: Any = None, b: Any = None, *, factor: int = 1) -> Any:
    """A term.

    Args:
        a: One.
        b: Other.
        factor: A number.
    """
    return (a, b, factor)


class Two(NamedTuple):
    left: Any
    right: Any


@node("Split")
def split(a: Any = None) -> Two:
    """Two terms.

    Args:
        a: It.
    """
    return Two(("left", a), ("right", a))


@node("Many")
def many(a: Any = None, count: int = 2) -> list[Any]:
    """A list.

    Args:
        a: What it is of.
        count: How long.
    """
    return [(a, i) for i in range(count)]


@node("All")
def every(values: list[Any] = None) -> Any:  # noqa: RUF013 - None is the absent list
    """A whole list as one value.

    Args:
        values: The list.
    """
    return tuple(values)


@node("Pick")
def pick(which: bool = True, a: Lazy[Any] = None, b: Lazy[Any] = None) -> Any:
    """One of two.

    Args:
        which: Which.
        a: If true.
        b: If false.
    """
    return ("picked", a() if which else b())


@node("Grow")
def grow(a: Any = None, times: int = 1) -> Any | Expansion:
    """Terms within terms, as a subgraph.

    Args:
        a: The innermost.
        times: How many.
    """
    if times <= 0:
        return ("grown", a)
    graph = Graph().add("x", "Mix", a=a, factor=times).add("r", "Grow", a=Link("x"), times=times - 1)
    return Expansion(graph, (Link("r"),))


CATALOG = Catalog([leaf, mix, split, many, every, pick, grow])
CONSTANTS = [0, 1, 1.0, True, "1", -0.0, 0.0, "", None, [1, 2], {"a": 1}, 2**60]


def edited(graph: Graph, rng: random.Random) -> Graph:  # noqa: PLR0911 - one return for each kind of edit
    """A random sound edit."""
    ids = list(graph.nodes)
    what = rng.randrange(8) if ids else 0
    if what <= 1 or len(ids) < 3:
        sources = [Link(i, rng.randrange(2) if graph.nodes[i].kind == "Split" else 0) for i in ids]
        name = f"n{rng.randrange(10**9)}"
        kind = rng.choice(["Leaf", "Mix", "Split", "Many", "All", "Pick", "Grow"])
        if kind == "Leaf" or not sources:
            return graph.add(name, "Leaf", value=rng.choice(CONSTANTS))
        if kind == "Mix":
            return graph.add(name, "Mix", a=rng.choice(sources), b=rng.choice(sources), factor=rng.randrange(3))
        if kind == "All":
            return graph.add(name, "All", values=rng.choice(sources))
        if kind == "Pick":
            return graph.add(name, "Pick", which=rng.random() < 0.5, a=rng.choice(sources), b=rng.choice(sources))
        if kind == "Grow":
            return graph.add(name, "Grow", a=rng.choice(sources), times=rng.randrange(3))
        return graph.add(name, kind, a=rng.choice(sources))
    target = rng.choice(ids)
    kind = graph.nodes[target].kind
    if what == 2:
        return graph.remove(target)
    if what == 3:
        return graph.retitle(target, f"t{rng.random()}")
    if what == 4 and kind == "Mix":
        return graph.set(target, factor=rng.randrange(3))
    if what == 5 and kind not in {"Leaf", "All"}:
        below = graph.downstream(target) | {target}
        sources = [i for i in ids if i not in below]
        if sources:
            source = rng.choice(sources)
            return graph.set(target, a=Link(source, rng.randrange(2) if graph.nodes[source].kind == "Split" else 0))
        return graph
    if what == 6:
        return graph.set_mode(target, rng.choice([Mode.ACTIVE, Mode.ACTIVE, Mode.BYPASSED, Mode.MUTED]))
    if kind == "Leaf":
        return graph.set(target, value=rng.choice(CONSTANTS))
    return graph.unset(target, "a") if kind not in {"All", "Pick"} else graph


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([10**9, 2500]))
def test_edits_and_partial_runs_equal_a_fresh_run(seed, memory_bytes):
    rng = random.Random(seed)
    engine = Engine(catalog=CATALOG, memory_bytes=memory_bytes)  # the small one evicts all the time
    graph = Graph()
    for _ in range(rng.randrange(3, 14)):
        for _ in range(rng.randrange(1, 4)):
            graph = edited(graph, rng)
        active = [i for i, n in graph.nodes.items() if n.mode is Mode.ACTIVE]
        if not active:
            continue
        targets = rng.sample(active, rng.randrange(1, min(4, len(active)) + 1))
        result = engine.run(graph, targets)
        fresh = Engine(catalog=CATALOG).run(graph, targets)
        for target in targets:
            for port in range(2 if graph.nodes[target].kind == "Split" else 1):
                assert result.value(target, port) == fresh.value(target, port)
                assert repr(result.value(target, port)) == repr(fresh.value(target, port))


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32))
def test_results_do_not_depend_on_ids_or_order(seed):
    rng = random.Random(seed)
    graph = Graph()
    for _ in range(rng.randrange(3, 20)):
        graph = edited(graph, rng)
    graph = Graph({i: n for i, n in graph.nodes.items() if n.mode is Mode.ACTIVE})
    graph = Graph({i: n for i, n in graph.nodes.items() if all(v.node in graph.nodes for v in links(n))})
    while any(v.node not in graph.nodes for n in graph.nodes.values() for v in links(n)):
        graph = Graph({i: n for i, n in graph.nodes.items() if all(v.node in graph.nodes for v in links(n))})
    if not graph.nodes:
        return
    names = {i: f"x{rng.random()}" for i in graph.nodes}
    items = [(names[i], n) for i, n in graph.nodes.items()]
    rng.shuffle(items)
    renamed = Graph(dict(items))
    for node_id, n in items:
        moved = {k: Link(names[v.node], v.port) for k, v in n.inputs.items() if isinstance(v, Link)}
        inputs = list({**n.inputs, **moved}.items())
        rng.shuffle(inputs)
        renamed = Graph({**renamed.nodes, node_id: type(n)(n.kind, dict(inputs), n.title)})
    target = rng.choice(list(graph.nodes))
    engine = Engine(catalog=CATALOG)
    first = engine.run(graph, [target])
    second = engine.run(renamed, [names[target]])
    assert second.report.ran == ()
    for port in range(2 if graph.nodes[target].kind == "Split" else 1):
        assert repr(first.value(target, port)) == repr(second.value(names[target], port))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32))
def test_a_document_edited_in_place_equals_a_fresh_run(seed):
    rng = random.Random(seed)
    graph = Graph()
    for _ in range(rng.randrange(3, 12)):
        graph = edited(graph, rng)
    graph = Graph({i: n for i, n in graph.nodes.items() if n.mode is Mode.ACTIVE})
    while any(v.node not in graph.nodes for n in graph.nodes.values() for v in links(n)):
        graph = Graph({i: n for i, n in graph.nodes.items() if all(v.node in graph.nodes for v in links(n))})
    leaves = [i for i, n in graph.nodes.items() if n.kind == "Leaf"]
    if not leaves:
        return
    document = write_api(graph)
    engine = Engine(catalog=CATALOG)
    for _ in range(4):
        target = rng.choice(list(document))
        again = json.loads(json.dumps(document))
        value = engine.run(document, [target]).value(target, 0)
        assert repr(value) == repr(Engine(catalog=CATALOG).run(again, [target]).value(target, 0))
        constant = rng.choice(CONSTANTS)
        document[rng.choice(leaves)]["inputs"]["value"] = {"__value__": constant} if isinstance(constant, list) else constant


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_the_api_format_round_trips(seed):
    rng = random.Random(seed)
    graph = Graph()
    for _ in range(rng.randrange(3, 20)):
        graph = edited(graph, rng)
    document = write_api(graph)
    again = write_api(read_api(json.loads(json.dumps(document))))
    assert json.dumps(again) == json.dumps(document)


def links(node_):
    return [v for v in node_.inputs.values() if isinstance(v, Link)]
