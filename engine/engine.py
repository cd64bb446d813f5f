"""The engine: workflows in, values and a report out. One per process is usual; it keeps models and results between runs."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from engine import devices
from engine.cache import MemoryStore, Store, Tiers
from engine.edits import linked, place
from engine.errors import Problem, RunCancelled, WeftError
from engine.events import NodesCached, RunFinished, RunStarted
from engine.execute import Cancellation, Job, Outcome, Services, execute
from engine.fingerprint import FileDigests, keys
from engine.folders import gather
from engine.formats.api import write_api
from engine.formats.files import Reader
from engine.graph import Graph, Link, Node
from engine.inactive import without_inactive
from engine.plan import Memory, Plan, plan
from engine.result import Report, RunResult
from engine.schema import Catalog
from engine.validate import Checked, check

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    from engine.events import Event, Sink

_TURN_S = 0.1
"""How often a run that waits for another one looks whether it was cancelled."""

_MEMORY_LIMIT = 200_000
"""How many calls are remembered, so that reasons can be told."""

_KEPT_OBJECTS = 20
"""About how many objects a run keeps of each node."""

MEMORY_SHARE = 0.4
"""Share of the machine's memory that kept results may take, models included."""


class Engine:
    """Runs workflows and keeps what they computed.

    Args:
        models_dir: Root of the model folders, or several; the models that ship with Weft are searched last.
        input_dir: Where `LoadImage` looks.
        output_dir: Where `SaveImage` writes.
        temp_dir: Where previews are written; below `output_dir` when None.
        cache_dir: Where results are kept between processes; None keeps them in memory only.
        extra_model_paths: `extra_model_paths.yaml` files.
        memory_bytes: How much memory kept results may take; a share of the machine's when None.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto`, `float32`, `float16`, `bfloat16`.
        catalog: The kinds; those of the package `nodes` when None.
        verify: Prove at every call that no node changes its inputs (slow; for tests).
    """

    def __init__(
        self,
        *,
        models_dir: str | Path | Sequence[str | Path] = (),
        input_dir: str | Path = "input",
        output_dir: str | Path = "output",
        temp_dir: str | Path | None = None,
        cache_dir: str | Path | None = None,
        extra_model_paths: Sequence[str | Path] = (),
        memory_bytes: int | None = None,
        device: str = "auto",
        dtype: str = "auto",
        catalog: Catalog | None = None,
        verify: bool = False,
    ) -> None:
        devices.share_cores()
        roots = [models_dir] if isinstance(models_dir, str | Path) else list(models_dir)
        self.folders = gather(roots, input_dir, output_dir, temp_dir=temp_dir, extra_model_paths=extra_model_paths)
        self.device = device
        self.dtype = dtype
        self.catalog = catalog if catalog is not None else Catalog.load("nodes")
        limit = memory_bytes if memory_bytes is not None else int(_machine_bytes() * MEMORY_SHARE)
        self._memory = MemoryStore(limit)
        tiers: list[Store] = [self._memory]
        memo = None
        if cache_dir is not None:
            from engine.cache.disk import DiskStore

            tiers.append(DiskStore(Path(cache_dir)))
            memo = Path(cache_dir) / "files.json"
        self.store: Store = tiers[0] if len(tiers) == 1 else Tiers(tiers)
        self._files = FileDigests(memo)
        self._salt = f"{device}/{dtype};".encode()
        self._verify = verify
        self._forget()
        self._lock = threading.Lock()
        self._running = threading.Lock()
        self._runner: int | None = None

    def __enter__(self) -> Self:
        """The engine."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the engine."""
        self.close()

    def close(self) -> None:
        """Let go of everything that is kept in memory."""
        self._files.save()
        self._memory.clear()
        self._forget()

    def _forget(self) -> None:
        self._reader = Reader(self.catalog)
        self._last: Checked | None = None
        self._keys: dict[str, bytes] | None = None
        self._stale: set[str] | None = None
        self._history: dict[str, Memory] = {}
        self._seen: set[bytes] = set()

    def check(self, workflow: Mapping[str, Any] | str | Path | Graph) -> Checked:
        """Check a workflow; the problems are in the answer.

        Raises:
            FormatError: if it is no workflow.
        """
        with self._lock:
            return self._check(self._reader.read(workflow))

    def validate(self, workflow: Mapping[str, Any] | str | Path | Graph) -> tuple[Problem, ...]:
        """Everything that is wrong with a workflow.

        Raises:
            FormatError: if it is no workflow.
        """
        return self.check(workflow).problems

    def explain(
        self,
        workflow: Mapping[str, Any] | str | Path | Graph,
        targets: Iterable[str] | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Plan:
        """What a run would do and why, without doing it.

        Raises:
            FormatError: if it is no workflow.
            WorkflowInvalid: if it cannot run.
        """
        with self._lock:
            graph, source = self._graph(workflow, overrides)
            checked = self._check(graph)
            wanted = checked.require(self._targets(graph, targets), source=source)
            return plan(checked, self._keyed(checked), wanted, self.store, history=self._history, seen=self._seen)

    def run(
        self,
        workflow: Mapping[str, Any] | str | Path | Graph,
        targets: Iterable[str] | None = None,
        overrides: Mapping[str, Any] | None = None,
        on_event: Sink | None = None,
        *,
        cancellation: Cancellation | None = None,
        keep_going: bool = False,
        force: Iterable[str] = (),
    ) -> RunResult:
        """Run a workflow.

        Args:
            workflow: A parsed document, a path, or a graph.
            targets: Ids or unique titles of the nodes to compute; all output nodes when None.
            overrides: `"NODE.INPUT"` to value, set before running; NODE is an id or a unique title.
            on_event: Takes the events of the run.
            cancellation: Stops the run when set.
            keep_going: Complete what does not depend on a failed node.
            force: Ids or titles of nodes that run even if their result is known, where the targets depend on them.

        Raises:
            FormatError: if it is no workflow.
            WorkflowInvalid: if it cannot run; carries every problem.
            WeftError: if an override names nothing, or the call comes from inside a run of this engine.
            NodeFailed: if a node raised.
            RunCancelled: if the run was cancelled.
        """
        emit = on_event or _ignore
        stop = cancellation or Cancellation()
        started = time.perf_counter()
        self._take_turn(stop)
        try:
            with self._lock, _no_collection():
                graph, source = self._graph(workflow, overrides)
                checked = self._check(graph)
                wanted = checked.require(self._targets(graph, targets), source=source)
                forced = self._forced(checked, force, source)
                found = self._keyed(checked)
                steps = plan(checked, found, wanted, self.store, history=self._history, seen=self._seen, force=forced)
            run_id = os.urandom(16).hex()
            emit(RunStarted(run_id, steps.total, len(steps.steps)))
            if len(steps.steps) < steps.total:
                emit(NodesCached(steps.known))
            job = Job(
                checked=checked,
                keys=found,
                catalog=self.catalog,
                files=self._files,
                store=self.store,
                services=Services(self.folders, self.device, self.dtype, _Documents(checked, self.catalog)),
                salt=self._salt,
                history=self._history,
                seen=self._seen,
            )
            outcome = Outcome()
            status = "failed"
            try:
                with _rare_collection(len(steps.steps)):
                    execute(
                        steps,
                        job,
                        sink=emit,
                        cancellation=stop,
                        keep_going=keep_going,
                        verify=self._verify,
                        outcome=outcome,
                    )
                status = "failed" if outcome.failures else "completed"
            except (RunCancelled, KeyboardInterrupt):
                status = "cancelled"
                raise
            finally:
                with self._lock, _no_collection():
                    self._remember(outcome, checked)
                self._files.save()
                _emit_last(emit, RunFinished(run_id, status, time.perf_counter() - started))
        finally:
            self._runner = None
            self._running.release()
        report = Report(steps, outcome, time.perf_counter() - started)
        return RunResult(report, outcome.shown, outcome.failures, checked, found, outcome, self.store)

    def _take_turn(self, cancellation: Cancellation) -> None:
        """Wait until no other run is under way."""
        if self._runner == threading.get_ident():
            msg = "cannot start a run from inside a run of the same engine; use another engine, or start it afterwards"
            raise WeftError(msg)
        while not self._running.acquire(timeout=_TURN_S):
            if cancellation.is_set:
                raise RunCancelled
        self._runner = threading.get_ident()

    def _forced(self, checked: Checked, force: Iterable[str], source: str | None) -> frozenset[str]:
        names = list(force)
        return frozenset(checked.require(self._targets(checked.graph, names), source=source)) if names else frozenset()

    def _graph(
        self, workflow: Mapping[str, Any] | str | Path | Graph, overrides: Mapping[str, Any] | None
    ) -> tuple[Graph, str | None]:
        graph = self._reader.read(workflow)
        for name, value in (overrides or {}).items():
            where = place(graph, self.catalog, name)
            graph = graph.set(where.node, **{where.input: linked(value)})
        return graph, str(workflow) if isinstance(workflow, str | Path) else None

    def _targets(self, graph: Graph, targets: Iterable[str] | None) -> list[str] | None:
        if targets is None:
            return None
        found = []
        for target in targets:
            try:
                found.append(graph.find(target))
            except WeftError:
                found.append(target)  # `require` says what is wrong with it, beside everything else
        return found

    def _check(self, graph: Graph) -> Checked:
        checked = check(graph, self.catalog, self.folders, previous=self._last)
        if checked.stale is None:
            self._stale = None
        elif self._stale is not None:
            self._stale |= checked.stale
        self._last = checked
        return checked

    def _keyed(self, checked: Checked) -> dict[str, bytes]:
        """The keys of what was checked last; only what moved since they were made is made again."""
        known = self._keys
        if known is None or self._stale is None:
            found = keys(checked, self._files, salt=self._salt)
        else:
            stale = set(self._stale)
            files = {i: checked.nodes[i] for i in checked.dynamic if i in checked.nodes and i not in stale}
            if files:
                alone = keys(Checked(checked.graph, files, ()), self._files, salt=self._salt, outer=known)
                stale.update(i for i in files if alone[i] != known[i])
            found = keys(checked, self._files, salt=self._salt, known=known, stale=stale) if stale else known
        self._keys, self._stale = found, set()
        return found

    def _remember(self, outcome: Outcome, checked: Checked) -> None:
        nodes, history, seen = checked.nodes, self._history, self._seen
        if len(seen) > _MEMORY_LIMIT:
            seen.clear()
        if len(history) > _MEMORY_LIMIT:
            history.clear()
        for node_id, key, _ in outcome.ran:
            seen.add(key)
            if node_id in nodes:
                history[node_id] = Memory(key, nodes[node_id])


def _emit_last(emit: Sink, event: RunFinished) -> None:
    """Emit the last event of a run; where the run failed, that is what is told, not that the sink does too."""
    try:
        emit(event)
    except Exception:
        if event.status == "completed":
            raise


@contextmanager
def _rare_collection(steps: int) -> Iterator[None]:
    """Fewer garbage collections while `steps` nodes run: what the run itself builds is plain data that stays."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], 50_000 + _KEPT_OBJECTS * steps), max(before[1], 20), max(before[2], 100))
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection while plain data is built: it would walk every object again and again and free nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class _Documents(Mapping[str, Any]):
    """What saved files carry; `prompt` is the workflow as it runs, written only if a node asks for it."""

    def __init__(self, checked: Checked, catalog: Catalog) -> None:
        self._checked = checked
        self._catalog = catalog
        self._prompt: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        """The document called `name`."""
        if name == "workflow":
            return self._page_document()
        if name != "prompt":
            return self._checked.graph.extra[name]
        if self._prompt is None:
            self._prompt = write_api(_as_run(self._checked, self._catalog))
        return self._prompt

    def _page_document(self) -> Any:
        """The document in the page's own format, with the values of this run."""
        from engine.formats.ui import is_ui
        from engine.formats.ui_write import updated

        document = self._checked.graph.extra["workflow"]
        return (updated(document, self._checked.graph, self._catalog) or document) if is_ui(document) else document

    def __iter__(self) -> Iterator[str]:
        """The names of the documents."""
        yield "prompt"
        yield from (name for name in self._checked.graph.extra if name != "prompt")

    def __len__(self) -> int:
        """How many documents there are."""
        return len(self._checked.graph.extra.keys() | {"prompt"})


def _as_run(checked: Checked, catalog: Catalog) -> Graph:
    """The sound nodes that take part, with links by index: muted nodes are gone, bypassed ones led around."""
    nodes: dict[str, Node] = {}
    for node_id, node in without_inactive(checked.graph, catalog).items():
        sound = checked.nodes.get(node_id)
        if sound is not None:
            links = {name: Link(*link) for name, link in sound.links.items()}
            nodes[node_id] = replace(node, inputs={**node.inputs, **links})
    return Graph(nodes)


def _machine_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def _ignore(_: Event) -> None:
    pass
