"""Edits of a graph: new graphs that share what did not change."""

from __future__ import annotations

from typing import Any

import pytest

from engine import Catalog, Engine, Graph, Link, node
from engine.edits import Place, edited
from engine.errors import WeftError

NAMES = ["node_id", "kind", "title", "inputs", "more", "self", "graph", "values", "a b", "1"]


@node("Say")
def say(**values: Any) -> Any:
    """What it is given.

    Args:
        values: Anything.
    """
    return dict(sorted(values.items()))


@pytest.mark.parametrize("name", NAMES)
def test_an_input_may_have_any_name(name):
    graph = Graph().add("n", "Say", {name: 1}, title="Titled")
    assert graph["n"].inputs == {name: 1}
    assert (graph["n"].kind, graph["n"].title) == ("Say", "Titled")
    assert graph.set("n", {name: 2})["n"].inputs == {name: 2}
    assert graph.set("n", **{name: 2})["n"].inputs == {name: 2}
    assert edited(graph, {Place("n", name): 3})["n"].inputs == {name: 3}
    assert graph.unset("n", name)["n"].inputs == {}


@pytest.mark.parametrize("name", [n for n in NAMES if n != "title"])
def test_all_names_but_one_may_be_keywords(name):
    assert Graph().add("n", "Say", **{name: 1})["n"].inputs == {name: 1}


def test_a_mapping_and_keywords_add_up():
    graph = Graph().add("n", "Say", {"a": 1, "b": 2}, b=3, c=Link("m"))
    assert graph["n"].inputs == {"a": 1, "b": 3, "c": Link("m")}
    assert graph.set("n", {"a": 4}, d=5)["n"].inputs == {"a": 4, "b": 3, "c": Link("m"), "d": 5}


def test_a_graph_does_not_change_with_the_mapping_it_was_made_from():
    inputs = {"a": 1}
    graph = Graph().add("n", "Say", inputs)
    engine = Engine(catalog=Catalog([say]))
    assert engine.run(graph, ["n"]).value("n") == {"a": 1}
    inputs["a"] = 2
    assert engine.run(graph, ["n"]).value("n") == {"a": 1}


def test_edits_share_what_they_do_not_touch():
    graph = Graph().add("a", "Say").add("b", "Say", x=Link("a"))
    after = graph.set("b", y=1)
    assert after.nodes["a"] is graph.nodes["a"]
    assert graph["b"].inputs == {"x": Link("a")}
    assert after.remove("a")["b"].inputs == {"y": 1}


def test_what_is_not_there_is_named():
    with pytest.raises(WeftError, match="has no node 'x'"):
        Graph().set("x", a=1)
    with pytest.raises(WeftError, match="already has a node 'a'"):
        Graph().add("a", "Say").add("a", "Say")


@pytest.mark.parametrize("name", ["node_id", "kind", "title"])
def test_a_run_overrides_an_input_of_any_name(name):
    graph = Graph().add("n", "Say", {name: 1})
    assert Engine(catalog=Catalog([say])).run(graph, ["n"], {f"n.{name}": 2}).value("n") == {name: 2}
