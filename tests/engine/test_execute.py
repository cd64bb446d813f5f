"""Lists, lazy inputs, subgraphs, coroutines, failures, cancellation."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, NamedTuple

import pytest

from engine import Cancellation, Catalog, Engine, Graph, Link, NodeFailed, RunCancelled, node
from engine.errors import CycleError, WeftError, WorkflowInvalid
from engine.events import NodeExpanded, NodeFinished, NodeProgress, NodeSkipped, NodeStarted, RunFinished
from engine.types import Expansion, Lazy, Run, Shown, Vae

calls: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_log():
    calls.clear()


@node("Number")
def number(value: int = 0) -> int:
    """A number.

    Args:
        value: The number.
    """
    calls.append(f"number {value}")
    return value


@node("Add")
def add(a: int, b: int = 1) -> int:
    """A sum.

    Args:
        a: One.
        b: Other.
    """
    calls.append(f"add {a} {b}")
    return a + b


@node("Range")
def numbers(count: int) -> list[int]:
    """0, 1, 2, ...

    Args:
        count: How many.
    """
    return list(range(count))


@node("Total")
def total(values: list[int], factor: int = 1) -> int:
    """A sum of a list.

    Args:
        values: The list.
        factor: What to multiply by.
    """
    calls.append(f"total {values}")
    return sum(values) * factor


@node("Pair")
def pair(a: int) -> list[int]:
    """A number twice.

    Args:
        a: It.
    """
    return [a, a]


@node("Switch")
def switch(which: bool, on_true: Lazy[int] = None, on_false: Lazy[int] = None) -> int:
    """One of two.

    Args:
        which: Which.
        on_true: If true.
        on_false: If false.
    """
    calls.append("switch")
    return on_true() if which else on_false()


@node("Sum")
def variadic(**terms: int) -> int:
    """A sum of any number of inputs.

    Args:
        terms: Them.
    """
    return sum(terms.values())


@node("Show", effect=True)
def show(value: Any) -> Shown:
    """Show.

    Args:
        value: What.
    """
    return Shown({"text": (str(value),)})


@node("Fail")
def fail(value: int) -> int:
    """Fail.

    Args:
        value: Unused.
    """
    msg = f"no {value}"
    raise ValueError(msg)


@node("Repeat")
def repeat(value: int, times: int) -> int | Expansion:
    """Add one `times` times, as a subgraph.

    Args:
        value: Where to begin.
        times: How often.
    """
    if times == 0:
        return value
    graph = Graph().add("step", "Add", a=value, b=1).add("rest", "Repeat", value=Link("step"), times=times - 1)
    return Expansion(graph, (Link("rest"),))


class Both(NamedTuple):
    quotient: int
    remainder: int


@node("DivMod")
def divide(a: int, b: int) -> Both:
    """Two outputs.

    Args:
        a: Dividend.
        b: Divisor.
    """
    return Both(*divmod(a, b))


@node("Sleep")
async def sleep(value: int, seconds: float = 0.2) -> int:
    """Wait.

    Args:
        value: Passed on.
        seconds: How long.
    """
    await asyncio.sleep(seconds)
    return value


@node("Slow")
def slow(value: int, run: Run) -> int:
    """Many steps.

    Args:
        value: Passed on.
    """
    for i in range(10_000):
        run.progress(i, 10_000)
        time.sleep(0.001)
    return value


@node("Spoil")
def spoil(values: list[int]) -> int:
    """Breaks the rule.

    Args:
        values: Changed here.
    """
    values.append(1)
    return 0


CATALOG = Catalog([number, add, numbers, total, pair, switch, variadic, show, fail, repeat, divide, sleep, slow, spoil])


@pytest.fixture
def engine():
    with Engine(catalog=CATALOG) as engine:
        yield engine


def value(engine, graph, node_id="out", port=0, **options):
    return engine.run(graph, [node_id], **options).value(node_id, port)


class TestLists:
    def test_a_node_runs_once_for_each_element(self, engine):
        graph = Graph().add("r", "Range", count=3).add("out", "Add", a=Link("r"), b=10)
        assert value(engine, graph) == (10, 11, 12)
        assert calls == ["add 0 10", "add 1 10", "add 2 10"]

    def test_shorter_lists_repeat_their_last_element(self, engine):
        graph = Graph().add("r", "Range", count=3).add("s", "Range", count=2).add("out", "Add", a=Link("r"), b=Link("s"))
        assert value(engine, graph) == (0, 2, 3)

    def test_a_whole_list_input_is_called_once(self, engine):
        graph = Graph().add("r", "Range", count=4).add("out", "Total", values=Link("r"), factor=2)
        assert value(engine, graph) == 12
        assert calls == ["total [0, 1, 2, 3]"]

    def test_list_outputs_of_several_calls_are_joined(self, engine):
        graph = Graph().add("r", "Range", count=2).add("out", "Pair", a=Link("r"))
        assert value(engine, graph) == (0, 0, 1, 1)

    def test_an_empty_list_beside_a_value_is_an_error_that_names_the_input(self, engine):
        graph = Graph().add("r", "Range", count=0).add("out", "Add", a=Link("r"), b=1)
        with pytest.raises(NodeFailed, match="'a' is empty"):
            value(engine, graph)


class TestOutputs:
    def test_by_index_and_by_name(self, engine):
        graph = Graph().add("d", "DivMod", a=17, b=5).add("out", "Add", a=Link("d", "remainder"), b=Link("d", 0))
        assert value(engine, graph) == 5
        assert value(engine, graph, "d", "quotient") == 3

    def test_variadic_inputs(self, engine):
        graph = Graph().add("n", "Number", value=4).add("out", "Sum", x=Link("n"), y=2, z=Link("n"))
        assert value(engine, graph) == 10

    def test_value_by_title(self, engine):
        result = engine.run(Graph().add("1", "Number", title="Answer", value=42), ["Answer"])
        assert result.value("Answer") == 42

    def test_what_is_shown(self, engine):
        result = engine.run(Graph().add("r", "Range", count=2).add("out", "Show", value=Link("r")))
        assert result.shown["out"].entries == {"text": ("0", "1")}


class TestLazy:
    def graph(self, which):
        return (
            Graph()
            .add("t", "Number", value=1)
            .add("f", "Number", value=2)
            .add("out", "Switch", which=which, on_true=Link("t"), on_false=Link("f"))
        )

    def test_only_the_branch_that_is_asked_for_runs(self, engine):
        assert value(engine, self.graph(which=True)) == 1
        assert calls == ["switch", "number 1", "switch"]
        calls.clear()
        assert value(engine, self.graph(which=False)) == 2
        assert calls == ["switch", "number 2", "switch"]

    def test_a_branch_that_is_known_is_not_asked_for_twice(self, engine):
        value(engine, self.graph(which=True), "t")
        calls.clear()
        assert value(engine, self.graph(which=True)) == 1
        assert "number 1" not in calls

    def test_lists_of_lazy_choices(self, engine):
        graph = self.graph(which=True).add("r", "Range", count=2).set("out", which=Link("r"))
        with pytest.raises(WorkflowInvalid, match="INT is not BOOLEAN"):
            value(engine, graph)


class TestExpansion:
    def test_a_node_becomes_a_subgraph(self, engine):
        events = []
        graph = Graph().add("n", "Number", value=5).add("out", "Repeat", value=Link("n"), times=3)
        result = engine.run(graph, ["out"], on_event=events.append)
        assert result.value("out") == 8
        assert [e.node for e in events if isinstance(e, NodeExpanded)] == ["out", "out.0.rest", "out.0.rest.0.rest"]
        assert result.report["out.0.step"].state == "ran"

    def test_the_parts_are_kept_too(self, engine):
        graph = Graph().add("n", "Number", value=5).add("out", "Repeat", value=Link("n"), times=3)
        value(engine, graph)
        calls.clear()
        assert value(engine, graph.set("out", times=4)) == 9
        assert calls == ["add 8 1"]

    def test_a_thousand_deep(self, engine):
        graph = Graph().add("out", "Repeat", value=0, times=1000)
        assert value(engine, graph) == 1000

    def test_each_element_of_a_list_expands(self, engine):
        graph = Graph().add("r", "Range", count=3).add("out", "Repeat", value=Link("r"), times=2)
        assert value(engine, graph) == (2, 3, 4)

    def test_a_subgraph_with_an_unknown_kind_fails_the_node(self):
        @node("Broken")
        def broken() -> int | Expansion:
            """Broken."""
            return Expansion(Graph().add("x", "Nothing"), (Link("x"),))

        with pytest.raises(NodeFailed, match="unknown-kind"):
            Engine(catalog=Catalog([broken])).run(Graph().add("out", "Broken"), ["out"])

    def test_a_subgraph_that_waits_for_its_own_node_is_a_cycle(self):
        @node("Loop")
        def loop(value: int = 0) -> int | Expansion:
            """Loop.

            Args:
                value: V.
            """
            return Expansion(Graph().add("x", "Loop", value=Link("out")), (Link("x"),))

        with pytest.raises(NodeFailed) as caught:
            Engine(catalog=Catalog([loop])).run(Graph().add("out", "Loop"), ["out"])
        assert caught.value.node == "out"
        assert isinstance(caught.value.__cause__, CycleError)


class TestAsync:
    def test_coroutines_overlap(self, engine):
        graph = Graph()
        for i in range(8):
            graph = graph.add(f"s{i}", "Sleep", value=i, seconds=0.2)
        graph = graph.add("out", "Sum", **{f"t{i}": Link(f"s{i}") for i in range(8)})
        started = time.perf_counter()
        assert value(engine, graph) == 28
        assert time.perf_counter() - started < 1.2

    def test_elements_of_a_list_overlap(self, engine):
        graph = Graph().add("r", "Range", count=8).add("out", "Sleep", value=Link("r"), seconds=0.2)
        started = time.perf_counter()
        assert value(engine, graph) == tuple(range(8))
        assert time.perf_counter() - started < 1.2

    def test_a_failing_coroutine_names_its_node(self):
        @node("Bad")
        async def bad() -> int:
            """Bad."""
            msg = "broken"
            raise OSError(msg)

        with pytest.raises(NodeFailed, match=r"node out \(Bad\) failed: OSError: broken"):
            Engine(catalog=Catalog([bad])).run(Graph().add("out", "Bad"), ["out"])


class TestFailure:
    def graph(self):
        return (
            Graph()
            .add("n", "Number", value=3)
            .add("bad", "Fail", title="My node", value=Link("n"))
            .add("after", "Add", a=Link("bad"))
            .add("lost", "Show", value=Link("after"))
            .add("good", "Show", value=Link("n"))
        )

    def test_the_error_names_node_inputs_and_cause(self, engine):
        with pytest.raises(NodeFailed) as caught:
            engine.run(self.graph())
        error = caught.value
        assert (error.node, error.kind, error.title, error.inputs) == ("bad", "Fail", "My node", {"value": "3"})
        assert isinstance(error.__cause__, ValueError)

    def test_keep_going_completes_what_does_not_depend_on_it(self, engine):
        events = []
        result = engine.run(self.graph(), on_event=events.append, keep_going=True)
        assert list(result.failures) == ["bad"]
        assert list(result.shown) == ["good"]
        assert {e.node: e.state for e in result.report} == {
            "n": "ran", "bad": "failed", "after": "skipped", "lost": "skipped", "good": "ran",
        }  # fmt: skip
        assert [(e.node, e.cause) for e in events if isinstance(e, NodeSkipped)] == [("after", "bad"), ("lost", "bad")]
        assert events[-1].status == "failed"

    def test_what_finished_before_a_failure_is_kept(self, engine):
        with pytest.raises(NodeFailed):
            engine.run(self.graph())
        calls.clear()
        with pytest.raises(NodeFailed):
            engine.run(self.graph())
        assert calls == []

    def test_a_wrong_number_of_outputs_is_named(self):
        @node("Short")
        def short() -> Both:
            """Short."""
            return (1,)

        with pytest.raises(NodeFailed, match="returned 1 outputs instead of 2"):
            Engine(catalog=Catalog([short])).run(Graph().add("out", "Short"), ["out"])

    def test_a_part_that_a_checkpoint_lacks_is_named(self):
        @node("Half")
        def half() -> Vae:
            """Find nothing."""

        @node("Needs")
        def needs(vae: Vae) -> int:
            """Need one.

            Args:
                vae: It.
            """
            return vae.factor

        engine = Engine(catalog=Catalog([half, needs]))
        with pytest.raises(NodeFailed, match=r"'vae' is empty: node h \(Half\) found no VAE"):
            engine.run(Graph().add("h", "Half").add("out", "Needs", vae=Link("h")), ["out"])

    def test_verify_finds_a_node_that_changes_its_input(self):
        engine = Engine(catalog=CATALOG, verify=True)
        graph = Graph().add("r", "Range", count=2).add("out", "Spoil", values=Link("r"))
        with pytest.raises(NodeFailed, match="Spoil changed its input 'values'"):
            engine.run(graph, ["out"])


class TestCancellation:
    def test_in_the_middle_of_a_node(self, engine):
        cancellation = Cancellation()
        events = []

        def watch(event):
            events.append(event)
            if isinstance(event, NodeProgress) and event.done == 5:
                cancellation.set()

        graph = Graph().add("out", "Slow", value=1)
        with pytest.raises(RunCancelled):
            engine.run(graph, ["out"], on_event=watch, cancellation=cancellation)
        assert isinstance(events[-1], RunFinished)
        assert events[-1].status == "cancelled"
        assert max(e.done for e in events if isinstance(e, NodeProgress)) == 5

    def test_between_nodes(self, engine):
        cancellation = Cancellation()

        def watch(event):
            if isinstance(event, NodeFinished):
                cancellation.set()

        graph = Graph().add("n", "Number", value=1).add("out", "Add", a=Link("n"))
        with pytest.raises(RunCancelled):
            engine.run(graph, ["out"], on_event=watch, cancellation=cancellation)
        assert calls == ["number 1"]
        assert value(engine, graph) == 2
        assert calls == ["number 1", "add 1 1"]

    def test_while_a_coroutine_waits(self, engine):
        cancellation = Cancellation()
        graph = Graph().add("out", "Sleep", value=1, seconds=60.0)
        threading.Timer(0.1, cancellation.set).start()
        started = time.perf_counter()
        with pytest.raises(RunCancelled):
            engine.run(graph, ["out"], cancellation=cancellation)
        assert time.perf_counter() - started < 10


def test_events_tell_the_story_in_order(engine):
    events = []
    engine.run(Graph().add("n", "Number", value=1).add("out", "Add", a=Link("n")), ["out"], on_event=events.append)
    told = [(type(e).__name__, getattr(e, "node", None)) for e in events]
    assert told == [
        ("RunStarted", None),
        ("NodeStarted", "n"),
        ("NodeFinished", "n"),
        ("NodeStarted", "out"),
        ("NodeFinished", "out"),
        ("RunFinished", None),
    ]
    assert isinstance(events[1], NodeStarted)
    assert events[1].reason == "first run"


def test_a_chain_of_ten_thousand(engine):
    nodes = {"0": {"class_type": "Number", "inputs": {"value": 0}}}
    for i in range(1, 10_000):
        nodes[str(i)] = {"class_type": "Add", "inputs": {"a": [str(i - 1), 0], "b": 1}}
    assert value(engine, nodes, "9999") == 9999


def test_an_unknown_output_is_named(engine):
    result = engine.run(Graph().add("d", "DivMod", a=1, b=1), ["d"])
    with pytest.raises(WeftError, match="no output 'x'; its outputs: 0 quotient, 1 remainder"):
        result.value("d", "x")
