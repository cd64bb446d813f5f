"""What saved files carry: the workflow as it ran."""

from __future__ import annotations

from typing import Any, NamedTuple

from engine import Catalog, Engine, Graph, Link, Mode, load, node
from engine.types import Run, Shown


class Two(NamedTuple):
    first: int
    second: int


@node("Two")
def two(a: int = 1, b: int = 2) -> Two:
    """Two numbers.

    Args:
        a: One.
        b: Other.
    """
    return Two(a, b)


@node("Pass")
def pass_on(x: int = 0) -> int:
    """Pass.

    Args:
        x: It.
    """
    return x


seen: list[Any] = []


@node("Keep", effect=True)
def keep(x: int, run: Run) -> Shown:
    """Keep the documents.

    Args:
        x: It.
    """
    seen.append((run.documents["prompt"], dict(run.documents).get("workflow")))
    return Shown({})


def test_links_are_by_index_muted_nodes_are_gone_and_bypassed_ones_led_around():
    graph = (
        Graph()
        .add("a", "Two", title="Numbers", b=7)
        .add("p", "Pass", x=Link("a", "second"))
        .add("gone", "Keep", x=Link("a"))
        .add("k", "Keep", x=Link("p"))
        .set_mode("p", Mode.BYPASSED)
        .set_mode("gone", Mode.MUTED)
    )
    engine = Engine(catalog=Catalog([two, pass_on, keep]))
    seen.clear()
    engine.run(graph)
    ((document, workflow),) = seen
    assert document == {
        "a": {"class_type": "Two", "inputs": {"b": 7}, "_meta": {"title": "Numbers"}},
        "k": {"class_type": "Keep", "inputs": {"x": ["a", 1]}},
    }
    assert workflow is None
    assert engine.run(load(document)).report.hits == ("a",)


def test_the_page_workflow_of_a_picture_goes_on():
    graph = Graph({}, {"workflow": {"nodes": []}}).add("a", "Two").add("k", "Keep", x=Link("a"))
    seen.clear()
    Engine(catalog=Catalog([two, pass_on, keep])).run(graph)
    assert seen[0][1] == {"nodes": []}
