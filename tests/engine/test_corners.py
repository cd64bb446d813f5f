"""Where lists, lazy inputs, subgraphs, coroutines, failures and stores meet."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import pytest

from engine import Cancellation, Catalog, Engine, Graph, Link, Mode, NodeFailed, RunCancelled, WorkflowInvalid, node
from engine.cache.values import Result
from engine.errors import WeftError
from engine.events import NodeErred, NodeFinished, NodeProgress, NodesCached, NodeStarted, RunFinished
from engine.schema import FileChoice
from engine.types import Expansion, Image, Lazy, Run, Shown

log: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_log():
    log.clear()


@node("Number")
def number(value: int = 0) -> int:
    """A number.

    Args:
        value: It.
    """
    log.append(f"number {value}")
    return value


@node("Range")
def numbers(count: int) -> list[int]:
    """0, 1, 2, ...

    Args:
        count: How many.
    """
    return list(range(count))


@node("Add")
def add(a: int, b: int = 1) -> int:
    """A sum.

    Args:
        a: One.
        b: Other.
    """
    log.append(f"add {a} {b}")
    return a + b


@node("Either")
def either(which: bool, first: Lazy[int] = None, second: Lazy[int] = None) -> int:
    """One of two.

    Args:
        which: Which.
        first: If true.
        second: If false.
    """
    return first() if which else second()


@node("Wait")
def wait(value: int, seconds: float = 0.05) -> int:
    """Take time.

    Args:
        value: Passed on.
        seconds: How long.
    """
    time.sleep(seconds)
    return value


@node("Show", effect=True)
def show(value: Any) -> Shown:
    """Show.

    Args:
        value: What.
    """
    log.append(f"show {value}")
    return Shown({"text": (str(value),)})


@node("Fail")
def fail(value: int = 0) -> int:
    """Fail.

    Args:
        value: Unused.
    """
    msg = f"no {value}"
    raise ValueError(msg)


def expanding(make, name="Expand"):
    """A kind that becomes the subgraph that `make(value)` returns."""

    @node(name)
    def expand(value: int = 0) -> int | Expansion:
        """Become a subgraph.

        Args:
            value: What it is made of.
        """
        return make(value)

    return expand


def engine_of(*more, **options):
    return Engine(catalog=Catalog([number, numbers, add, either, wait, show, fail, *more]), **options)


class TestLazy:
    def test_inside_a_subgraph(self):
        def make(value):
            graph = Graph().add("t", "Number", value=value).add("f", "Fail")
            return Expansion(graph.add("e", "Either", which=True, first=Link("t"), second=Link("f")), (Link("e"),))

        result = engine_of(expanding(make)).run(Graph().add("o", "Expand", value=4), ["o"])
        assert result.value("o") == 4

    def test_a_list_that_nobody_asks_for_changes_nothing(self):
        graph = (
            Graph()
            .add("r", "Range", count=3)
            .add("n", "Number", value=1)
            .add("o", "Either", which=True, first=Link("n"), second=Link("r"))
        )
        assert engine_of().run(graph, ["o"]).value("o") == 1
        assert engine_of().run(graph, ["r", "o"]).value("o") == 1

    def test_a_list_that_is_asked_for_maps(self):
        graph = (
            Graph()
            .add("r", "Range", count=3)
            .add("n", "Number", value=1)
            .add("o", "Either", which=False, first=Link("n"), second=Link("r"))
        )
        assert engine_of().run(graph, ["o"]).value("o") == (0, 1, 2)

    def test_reasons_and_announcements_tell_the_truth(self):
        events = []
        graph = Graph().add("t", "Number", value=1).add("f", "Number", value=2)
        graph = graph.add("o", "Either", which=True, first=Link("t"), second=Link("f"))
        engine = engine_of()
        result = engine.run(graph, ["o"], on_event=events.append)
        assert not [e for e in events if isinstance(e, NodesCached) and e.nodes]
        assert {e.node: e.reason for e in events if isinstance(e, NodeStarted)} == {"o": "first run", "t": "first run"}
        assert {e.node: (e.state, e.reason) for e in result.report} == {
            "t": ("ran", "first run"),
            "f": ("idle", "lazy"),
            "o": ("ran", "first run"),
        }

    def test_an_effect_runs_once_though_a_lazy_branch_needs_it_too(self):
        @node("Effect", effect=True)
        def effect(value: int) -> int:
            """Count.

            Args:
                value: Passed on.
            """
            log.append("effect")
            return value

        graph = Graph().add("e", "Effect", value=3).add("l", "Add", a=Link("e"))
        graph = graph.add("o", "Either", which=True, first=Link("l"), second=Link("l"))
        result = engine_of(effect).run(graph, ["e", "o"])
        assert result.value("o") == 4
        assert log.count("effect") == 1


class TestSubgraphs:
    def test_a_list_output_given_as_a_value(self):
        @node("Make")
        def make() -> list[int] | Expansion:
            """Make a list."""
            return Expansion(Graph(), ([1, 2, 3],))

        graph = Graph().add("m", "Make").add("o", "Add", a=Link("m"), b=10)
        assert engine_of(make).run(graph, ["o"]).value("o") == (11, 12, 13)

    @pytest.mark.parametrize("where", ["gone", "muted"])
    def test_an_output_that_leads_nowhere_fails_the_node(self, where):
        def make(_):
            graph = Graph().add("muted", "Number", value=1).set_mode("muted", Mode.MUTED)
            return Expansion(graph, (Link(where),))

        graph = Graph().add("muted", "Number", value=99).add("o", "Expand")
        with pytest.raises(NodeFailed, match="which does not run"):
            engine_of(expanding(make)).run(graph, ["o"])

    def test_a_failing_part_names_the_node_that_people_see(self):
        def make(value):
            return Expansion(Graph().add("x", "Fail", value=value), (Link("x"),))

        graph = Graph().add("7", "Expand", title="My group", value=5).add("o", "Add", a=Link("7"))
        engine = engine_of(expanding(make))
        with pytest.raises(NodeFailed, match=r"node 7\.0\.x \(Fail\), part of node 7 \(My group\), failed") as caught:
            engine.run(graph, ["o"])
        assert caught.value.origin == ("7", "My group")
        result = engine.run(graph, ["o"], keep_going=True)
        assert {e.node: e.state for e in result.report} == {"7": "failed", "o": "skipped", "7.0.x": "failed"}
        assert result.failures["7"].__cause__ is result.failures["7.0.x"]

    def test_one_wrong_part_of_several_fails_the_node_once(self):
        def make(value):
            kind = "Number" if value == 0 else "Nothing"
            return Expansion(Graph().add("x", kind, value=value), (Link("x"),))

        events = []
        graph = Graph().add("r", "Range", count=2).add("o", "Expand", value=Link("r")).add("s", "Show", value=Link("r"))
        result = engine_of(expanding(make)).run(graph, ["o", "s"], keep_going=True, on_event=events.append)
        assert [e.node for e in events if isinstance(e, NodeErred)] == ["o"]
        assert "unknown-kind" in str(result.failures["o"])
        assert "s" in result.shown

    def test_a_loop_keeps_going_elsewhere(self):
        def make(_):
            return Expansion(Graph().add("x", "Add", a=Link("1.o")), (Link("x"),))

        graph = Graph().add("1.o", "Expand").add("s", "Show", value=1)
        result = engine_of(expanding(make)).run(graph, ["1.o", "s"], keep_going=True)
        assert "s" in result.shown
        assert "cycle" in str(result.failures["1.o"])

    def test_a_long_loop_holds_few_values(self):
        def make(value):
            if value == 0:
                return 0
            graph = Graph().add("s", "Number", value=value - 1).add("r", "Expand", value=Link("s"))
            return Expansion(graph, (Link("r"),))

        engine = engine_of(expanding(make), memory_bytes=0)
        assert engine.run(Graph().add("o", "Expand", value=60), ["o"]).value("o") == 0


class TestFailures:
    def test_a_twin_of_a_failed_node_is_no_hit(self):
        graph = Graph().add("f", "Fail").add("g", "Fail").add("o", "Add", a=Link("g"))
        result = engine_of().run(graph, ["f", "o"], keep_going=True)
        assert {e.node: e.state for e in result.report} == {"f": "failed", "g": "skipped", "o": "skipped"}

    def test_what_ran_before_a_failure_is_remembered(self):
        engine = engine_of()
        graph = Graph().add("n", "Number", value=1).add("f", "Fail", value=Link("n")).add("o", "Show", value=Link("f"))
        with pytest.raises(NodeFailed):
            engine.run(graph)
        steps = {s.node.id: s.because for s in engine.explain(graph.set("n", value=2)).steps}
        assert steps["n"] == "changed: value"

    def test_an_error_of_the_sink_is_not_the_nodes(self):
        def sink(event):
            if isinstance(event, NodeFinished):
                raise BrokenPipeError

        with pytest.raises(BrokenPipeError):
            engine_of().run(Graph().add("o", "Number"), ["o"], on_event=sink)

    def test_a_sink_that_fails_at_the_end_does_not_hide_the_failure(self):
        def sink(event):
            if isinstance(event, RunFinished):
                raise BrokenPipeError

        with pytest.raises(NodeFailed):
            engine_of().run(Graph().add("o", "Fail"), ["o"], on_event=sink)


class TestCoroutines:
    def test_progress_reaches_the_sink_on_the_thread_of_the_run(self):
        @node("Report")
        async def report(run: Run) -> int:
            """Report."""
            run.progress(1, 2)
            await asyncio.sleep(0)
            return 1

        threads = []
        engine_of(report).run(
            Graph().add("o", "Report"),
            ["o"],
            on_event=lambda e: threads.append(threading.current_thread()) if isinstance(e, NodeProgress) else None,
        )
        assert threads == [threading.current_thread()]

    def test_one_that_resists_cancelling_does_not_hide_it(self, monkeypatch):
        monkeypatch.setattr("engine.coroutines.PATIENCE_S", 0.2)
        release = threading.Event()

        @node("Stubborn")
        async def stubborn() -> int:
            """Resist."""
            while not release.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue
            return 1

        cancellation = Cancellation()
        threading.Timer(0.1, cancellation.set).start()
        try:
            with pytest.raises(RunCancelled):
                engine_of(stubborn).run(Graph().add("o", "Stubborn"), ["o"], cancellation=cancellation)
        finally:
            release.set()

    def test_system_exit_is_a_failure(self):
        @node("Exit")
        async def leave() -> int:
            """Leave."""
            raise SystemExit(3)

        with pytest.raises(NodeFailed, match="SystemExit"):
            engine_of(leave).run(Graph().add("o", "Exit"), ["o"])

    def test_asking_for_a_lazy_input_stops_the_other_calls_first(self):
        @node("Ask")
        async def ask(element: int, more: Lazy[int]) -> int:
            """Ask, the first element at once.

            Args:
                element: Which call.
                more: What is asked for.
            """
            log.append(f"start {element}")
            if element:
                await asyncio.sleep(0.05)
            value = more()
            log.append(f"end {element}")
            return value + element

        graph = Graph().add("r", "Range", count=2).add("n", "Number", value=10)
        graph = graph.add("o", "Ask", element=Link("r"), more=Link("n"))
        assert engine_of(ask).run(graph, ["o"]).value("o") == (10, 11)
        assert [line for line in log if line.startswith("end")] == ["end 0", "end 1"]

    def test_a_failure_tells_the_inputs(self):
        @node("Bad")
        async def bad(x: int, y: int = 2) -> int:
            """Fail.

            Args:
                x: X
                y: Y
            """
            raise OSError

        with pytest.raises(NodeFailed) as caught:
            engine_of(bad).run(Graph().add("n", "Number", value=5).add("o", "Bad", x=Link("n")), ["o"])
        assert caught.value.inputs == {"x": "5", "y": "2"}

    def test_verify_watches_them_too(self):
        @node("Spoil")
        async def spoil(values: list[int]) -> int:
            """Change.

            Args:
                values: Changed.
            """
            values.append(1)
            return 1

        graph = Graph().add("r", "Range", count=2).add("o", "Spoil", values=Link("r"))
        with pytest.raises(NodeFailed, match="changed its input"):
            engine_of(spoil, verify=True).run(graph, ["o"])


class TestTime:
    def test_mapped_calls_take_time(self):
        graph = Graph().add("r", "Range", count=3).add("o", "Wait", value=Link("r"), seconds=0.02)
        assert engine_of().run(graph, ["o"]).report["o"].seconds >= 0.06


class TestForce:
    def test_a_forced_node_runs_though_what_follows_is_known(self):
        engine = engine_of()
        graph = Graph().add("n", "Number", title="Seed", value=1).add("o", "Add", a=Link("n"))
        engine.run(graph, ["o"])
        assert engine.run(graph, ["o"], force=["Seed"]).report.ran == ("n",)

    def test_an_unknown_one_is_a_problem(self):
        with pytest.raises(WorkflowInvalid, match="unknown-target"):
            engine_of().run(Graph().add("n", "Number"), ["n"], force=["m"])


class TestEngine:
    def test_validating_from_inside_a_run_is_fine_running_is_refused(self):
        engine = engine_of()
        graph = Graph().add("n", "Number", value=1)
        seen: list[Any] = []

        def sink(event):
            if isinstance(event, NodeFinished):
                seen.append(engine.validate(graph))
                engine.run(graph, ["n"])

        with pytest.raises(WeftError, match="from inside a run"):
            engine.run(graph, ["n"], on_event=sink)
        assert seen == [()]

    def test_a_run_that_waits_for_its_turn_can_be_cancelled(self):
        engine = engine_of()
        started, cancellation = threading.Event(), Cancellation()
        graph = Graph().add("o", "Wait", value=1, seconds=0.6)
        first = threading.Thread(target=lambda: engine.run(graph, ["o"], on_event=lambda _: started.set()))
        first.start()
        started.wait(5)
        cancellation.set()
        with pytest.raises(RunCancelled):
            engine.run(graph, ["o"], cancellation=cancellation)
        first.join()

    def test_a_cancellation_used_again_keeps_no_run(self):
        cancellation = Cancellation()
        engine = engine_of()
        for _ in range(3):
            engine.run(Graph().add("n", "Number"), ["n"], cancellation=cancellation)
        assert cancellation._wake == []

    def test_closing_lets_go_of_memory_beside_a_disk_cache(self, tmp_path):
        engine = engine_of(cache_dir=tmp_path)
        engine.run(Graph().add("n", "Number"), ["n"])
        engine.close()
        assert len(engine._memory) == 0

    def test_a_value_that_is_changed_by_its_owner_is_a_copy(self):
        import torch

        @node("Grey")
        def grey() -> Image:
            """A picture."""
            return Image(torch.ones(1, 2, 2, 3))

        engine = engine_of(grey)
        value = engine.run(Graph().add("g", "Grey"), ["g"]).value("g")
        value.mul_(255)
        assert engine.run(Graph().add("g", "Grey"), ["g"]).value("g").max() == 1

    def test_checking_between_runs_loses_no_change(self):
        engine = engine_of()
        graph = Graph().add("n", "Number", value=1).add("o", "Add", a=Link("n"))
        engine.run(graph, ["o"])
        changed = graph.set("n", value=5)
        engine.validate(changed)
        assert engine.run(changed.set("o", b=2), ["o"]).value("o") == 7


class TestFiles:
    @pytest.fixture
    def read(self):
        @node("Read")
        def read(file: Annotated[Path, FileChoice("checkpoints")]) -> str:
            """Read.

            Args:
                file: What.
            """
            return file.read_text()

        return read

    def test_a_file_replaced_during_the_run_does_not_poison_what_is_kept(self, read, tmp_path):
        (tmp_path / "checkpoints").mkdir()
        path = tmp_path / "checkpoints" / "a.safetensors"
        path.write_text("AAA")
        engine = engine_of(read, models_dir=tmp_path)
        graph = Graph().add("r", "Read", file="a.safetensors").add("s", "Show", value=Link("r"))

        def replace(event):
            if isinstance(event, NodeStarted) and event.node == "r":
                path.write_text("BBBB")

        assert engine.run(graph, on_event=replace).shown["s"].entries["text"] == ("BBBB",)
        path.write_text("AAA")
        assert engine.run(graph).shown["s"].entries["text"] == ("AAA",)


def test_a_store_that_forgets_everything_along_a_chain():
    class Liar:
        def __contains__(self, _):
            return True

        def get(self, _):
            return None

        def put(self, key, result: Result, seconds):
            pass

        def clear(self):
            pass

    engine = engine_of()
    graph = Graph().add("0", "Number", value=0)
    for i in range(1, 1500):
        graph = graph.add(str(i), "Add", a=Link(str(i - 1)))
    graph = graph.add("s", "Show", value=Link("1499"))
    engine.store = Liar()
    assert engine.run(graph).shown["s"].entries["text"] == ("1499",)
