"""Runs a plan: calls nodes, keeps and releases values, emits events. Knows no HTTP and no client.

A step becomes ready when everything that it is linked to is known; ready steps run in the order of the plan. Three
things happen while running that no plan foresees: a node asks for a lazy input, a node becomes a subgraph, a result that
was kept is gone. All three add steps to the run.

Coroutine nodes run on an event loop in a thread of their own, so that waiting overlaps with computing.
"""

from __future__ import annotations

import heapq
import queue
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engine.cache.values import Listed, Result
from engine.calls import NotReady, Pending, calls_of, merged, unpacked
from engine.coroutines import CoroutineThread
from engine.errors import CycleError, NodeFailed, RunCancelled, UnencodableValue, WeftError, WorkflowInvalid
from engine.events import (
    NodeErred,
    NodeExpanded,
    NodeFinished,
    NodeProgress,
    NodeSkipped,
    NodeStarted,
)
from engine.fingerprint import FileDigests, digest, link_identity
from engine.graph import Link
from engine.plan import plan
from engine.subgraph import prefixed, subgraph_keys, unbind
from engine.types import Expansion, Shown
from engine.validate import check

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from engine.cache.store import Store
    from engine.events import Sink
    from engine.folders import Folders
    from engine.plan import Memory, Plan, Step
    from engine.schema import Catalog
    from engine.validate import Checked, CheckedNode

_PARTS = frozenset({"MODEL", "CLIP", "VAE"})
"""Port types of what a checkpoint may lack."""

_SHORT = 80
"""How many characters of an input an error shows."""


class Cancellation:
    """A request to stop, from any thread. Checked before every call and at every progress report."""

    def __init__(self) -> None:
        self._is_set = False
        self._wake: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        """Whether the run should stop."""
        return self._is_set

    def set(self) -> None:
        """Ask the run to stop."""
        self._is_set = True
        for wake in tuple(self._wake):
            wake()

    def on_set(self, wake: Callable[[], None]) -> None:
        """Call `wake` when the request is made."""
        self._wake.append(wake)


@dataclass(frozen=True, slots=True)
class Services:
    """What running nodes may ask for, see `engine.types.Run`."""

    folders: Folders
    device: str = "auto"
    dtype: str = "auto"
    documents: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a run works on.

    Attributes:
        checked: The graph.
        keys: The key of every node.
        catalog: The kinds that subgraphs may use.
        files: Digests of files.
        store: Where results are kept.
        services: What nodes may ask for.
        salt: What every key starts with.
        history: What ran last under each id.
        seen: Keys of calls that ran before.
    """

    checked: Checked
    keys: dict[str, bytes]
    catalog: Catalog
    files: FileDigests
    store: Store
    services: Services
    salt: bytes = b""
    history: Mapping[str, Memory] = field(default_factory=dict)
    seen: Collection[bytes] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run did.

    Attributes:
        values: Key to result for every target that is known.
        ran: (node id, key, seconds) of every call made, in the order in which they finished.
        failures: Node id to error.
        skipped: Node id to the id of the failed node that it depends on.
        shown: Node id to what it shows.
        nodes: The nodes that subgraphs added.
    """

    values: Mapping[bytes, Result]
    ran: list[tuple[str, bytes, float]]
    failures: dict[str, NodeFailed]
    skipped: dict[str, str]
    shown: dict[str, Shown]
    nodes: Mapping[str, CheckedNode]


def execute(
    plan_: Plan,
    job: Job,
    *,
    sink: Sink | None = None,
    cancellation: Cancellation | None = None,
    keep_going: bool = False,
    verify: bool = False,
) -> Outcome:
    """Run a plan.

    Args:
        plan_: What to run.
        job: What to run it on.
        sink: Takes the events.
        cancellation: Stops the run when set.
        keep_going: Complete what does not depend on a failed node, instead of stopping at the first failure.
        verify: Prove that no node changes its inputs (slow).

    Raises:
        NodeFailed: if a node raised and `keep_going` is off.
        RunCancelled: if the run was cancelled.
    """
    execution = _Execution(plan_, job, sink or _ignore, cancellation or Cancellation(), keep_going=keep_going, verify=verify)
    try:
        return execution.run()
    finally:
        execution.close()


def _ignore(_: object) -> None:
    pass


class _Handle:
    """What a node sees of its run."""

    __slots__ = ("_execution", "node")

    def __init__(self, execution: _Execution, node: str) -> None:
        self._execution = execution
        self.node = node

    @property
    def folders(self) -> Folders:
        """Where models, inputs and outputs are."""
        return self._execution.job.services.folders

    @property
    def device(self) -> str:
        """The device asked for."""
        return self._execution.job.services.device

    @property
    def dtype(self) -> str:
        """The number format asked for."""
        return self._execution.job.services.dtype

    @property
    def documents(self) -> Mapping[str, Any]:
        """What saved files carry."""
        return self._execution.job.services.documents

    def progress(self, done: float, total: float, preview: Callable[[], Any] | None = None) -> None:
        """Report progress; raises `RunCancelled` if the run was cancelled."""
        self._execution.emit(NodeProgress(self.node, done, total, preview))
        self.check()

    def check(self) -> None:
        """Raise `RunCancelled` if the run was cancelled."""
        if self._execution.cancellation.is_set:
            raise RunCancelled


class _Execution:
    """The state of one run."""

    def __init__(
        self, plan_: Plan, job: Job, emit: Sink, cancellation: Cancellation, *, keep_going: bool, verify: bool
    ) -> None:
        self.job = job
        self.emit = emit
        self.cancellation = cancellation
        self.keep_going = keep_going
        self.verify = verify
        self.keys = job.keys
        self.nodes = job.checked.nodes
        self.steps: list[Step] = []
        self.waiting: list[int] = []
        self.ready: list[int] = []
        self.dependents: dict[bytes, list[int]] = {}
        self.pending: set[bytes] = set()
        self.values: dict[bytes, tuple[Any, ...]] = {}
        self.uses: dict[bytes, int] = {}
        self.retained: set[bytes] = {self.keys[t] for t in plan_.targets}
        self.targets = plan_.targets
        self.results: dict[bytes, Result] = {}
        self.started: dict[int, float] = {}
        self.expanding: dict[int, tuple[list[Any], float, bool]] = {}
        self.ran: list[tuple[str, bytes, float]] = []
        self.failures: dict[str, NodeFailed] = {}
        self.failed_keys: dict[bytes, str] = {}
        self.skipped: dict[str, str] = {}
        self.shown: dict[str, Shown] = {}
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.loop: CoroutineThread | None = None
        self.in_flight = 0
        self.add(plan_.steps)
        for target in plan_.targets:  # what is known now may be let go before the run ends
            self.fetch(self.keys[target], target)

    def close(self) -> None:
        """Stop what still runs."""
        if self.loop is not None:
            self.loop.close()
            self.loop = None

    # --- scheduling

    def add(self, steps: Iterable[Step]) -> None:
        """Take steps in, sources first."""
        keys_, pending, values, uses = self.keys, self.pending, self.values, self.uses
        for step in steps:
            index = len(self.steps)
            self.steps.append(step)
            self.waiting.append(0)
            pending.add(step.key)
            node = step.node
            links = node.links
            missing = 0
            if links:
                ports = None if node.kind.is_plain else node.kind.inputs
                for name, (source, _) in links.items():
                    if ports is not None and name in ports and ports[name].lazy:
                        continue
                    key = keys_[source]
                    uses[key] = uses.get(key, 0) + 1
                    if key not in values and (key in pending or not self.fetch(key, source)):
                        self.dependents.setdefault(key, []).append(index)
                        missing += 1
                        if key in self.failed_keys:
                            self.skip(index, self.failed_keys[key])
            self.waiting[index] = missing
            if not missing:
                heapq.heappush(self.ready, index)

    def fetch(self, key: bytes, source: str) -> bool:
        """Make the value of `source` available; where it is not kept, schedule it and return False."""
        if key in self.values:
            return True
        if key in self.pending:
            return False
        result = self.job.store.get(key)
        if result is not None:
            self.values[key] = result.outputs
            if key in self.retained:
                self.results[key] = result
            return True
        if key in self.failed_keys:
            return False
        checked = self.job.checked if source in self.job.checked.nodes else replace(self.job.checked, nodes=self.nodes)
        more = plan(
            checked,
            self.keys,
            (source,),
            self.job.store,
            history=self.job.history,
            seen=self.job.seen,
            force=(source,),
            scheduled=self.pending,
        )
        self.add(more.steps)
        return False

    def wait_for(self, index: int, source: str) -> bool:
        """Let a step wait for `source`; False if it is there already."""
        key = self.keys[source]
        self.retained.add(key)
        if self.fetch(key, source):
            return False
        self.dependents.setdefault(key, []).append(index)
        self.waiting[index] += 1
        if key in self.failed_keys:
            self.skip(index, self.failed_keys[key])
        return True

    def run(self) -> Outcome:
        """Run everything."""
        self.cancellation.on_set(lambda: self.inbox.put(None))
        ready = self.ready
        heappop = heapq.heappop
        cancellation = self.cancellation
        while ready or self.in_flight:
            if cancellation.is_set:
                raise RunCancelled
            if self.in_flight and (not ready or not self.inbox.empty()):
                self.collect()
                continue
            index = heappop(ready)
            if index in self.expanding:
                self.assemble(index)
            else:
                self.step(index)
        if self.pending:
            self.stuck()
        return self.outcome()

    def stuck(self) -> None:
        """Nothing is ready and nothing is under way, yet steps wait: a subgraph waits for itself."""
        for step in self.steps:
            if step.key in self.pending and step.node.id not in self.skipped:
                origin = step.node.id.split(".")[0]
                node = self.nodes.get(origin, step.node)
                path = [s.node.id for s in self.steps if s.key in self.pending]
                cause = CycleError([*path[:8], path[0]])
                raise NodeFailed(node=node.id, kind=node.kind.id, title=node.node.title, inputs={}, cause=cause) from cause

    def outcome(self) -> Outcome:
        """What was done, with the results of the targets."""
        for target in self.targets:
            key = self.keys[target]
            if key not in self.results:
                kept = self.job.store.get(key)
                if kept is not None:
                    self.results[key] = kept
        nodes = {} if self.nodes is self.job.checked.nodes else self.nodes
        return Outcome(self.results, self.ran, self.failures, self.skipped, self.shown, nodes)

    # --- calling

    def step(self, index: int) -> None:
        """Call the node of a step."""
        step = self.steps[index]
        node = step.node
        kind = node.kind
        started = self.started.get(index)
        if started is None:
            self.emit(NodeStarted(node.id, kind.id, node.node.title, step.reason.value))
            started = time.perf_counter()
        inputs = node.literals.copy()
        has_lists = False
        try:
            values, keys_ = self.values, self.keys
            if kind.is_plain:
                for name, (source, port) in node.links.items():
                    value = values[keys_[source]][port]
                    if type(value) is Listed:
                        has_lists = True
                    elif value is None:
                        self.refuse_absent(node, name)
                    inputs[name] = value
                if not has_lists:
                    if kind.run_parameter is not None:
                        inputs[kind.run_parameter] = _Handle(self, node.id)
                    raw = self.call(node, inputs) if self.verify else kind.function(**inputs)
                    if type(raw) is Expansion:
                        self.expand(index, [raw], started, is_mapped=False)
                        return
                    outputs, shown = unpacked(kind, raw)
                    self.finish(index, outputs, shown, time.perf_counter() - started)
                    return
            else:
                self.started[index] = started
                has_lists = self.gather(node, inputs)
            calls = calls_of(kind, inputs, has_lists=has_lists)
            if kind.run_parameter is not None:
                for call in calls:
                    call[kind.run_parameter] = _Handle(self, node.id)
            if kind.is_async:
                if self.loop is None:
                    self.loop = CoroutineThread(self.inbox)
                self.in_flight += 1
                self.loop.start(index, kind.function, calls)
                return
            raws = []
            for call in calls:
                if self.cancellation.is_set:
                    raise RunCancelled  # noqa: TRY301 - the same path as a node that notices itself
                raws.append(self.call(node, call))
            self.returned(index, raws, is_mapped=has_lists and not kind.whole_lists)
        except NotReady as need:
            self.ask(index, need.name)
        except Exception as cause:  # noqa: BLE001 - whatever a node raises becomes its NodeFailed
            self.fail(index, cause, inputs)

    def gather(self, node: CheckedNode, inputs: dict[str, Any]) -> bool:
        """Put linked values into `inputs`; whether one is a list."""
        has_lists = False
        ports = node.kind.inputs
        for name, (source, port) in node.links.items():
            key = self.keys[source]
            if name in ports and ports[name].lazy and key not in self.values:
                inputs[name] = Pending(name)
                continue
            value = self.values[key][port]
            has_lists = has_lists or type(value) is Listed
            if value is None:
                self.refuse_absent(node, name)
            inputs[name] = value
        return has_lists

    def refuse_absent(self, node: CheckedNode, name: str) -> None:
        """Refuse a part of a model that its file does not hold; for other types None is a value."""
        port = node.kind.inputs.get(name)
        if port is not None and port.required and port.type in _PARTS:
            source = self.nodes[node.links[name][0]]
            msg = f"{name!r} is empty: node {source.id} ({source.kind.id}) found no {port.type}; load one from another file"
            raise WeftError(msg)

    def call(self, node: CheckedNode, inputs: dict[str, Any]) -> Any:
        """Call a node once, proving that it leaves its inputs alone if asked to."""
        if not self.verify:
            return node.kind.function(**inputs)
        before = _digests(inputs)
        raw = node.kind.function(**inputs)
        after = _digests(inputs)
        changed = [name for name in before if before[name] != after.get(name)]
        if changed:
            msg = f"{node.kind.id} changed its input {changed[0]!r}; values are immutable, return a new one"
            raise WeftError(msg)
        return raw

    def returned(self, index: int, raws: list[Any], *, is_mapped: bool) -> None:
        """Take what the calls of a step returned."""
        step = self.steps[index]
        started = self.started.pop(index, None) or time.perf_counter()
        if any(type(raw) is Expansion for raw in raws):
            self.expand(index, raws, started, is_mapped=is_mapped)
            return
        outputs, shown = merged(step.node.kind, [unpacked(step.node.kind, raw) for raw in raws], is_mapped=is_mapped)
        self.finish(index, outputs, shown, time.perf_counter() - started)

    def collect(self) -> None:
        """Take one finished coroutine node from the inbox, waiting for it."""
        item = self.inbox.get()
        if item is None:
            return
        index, done = item
        self.in_flight -= 1
        step = self.steps[index]
        inputs = step.node.literals.copy()
        try:
            raws = done.result()
            has_lists = self.gather(step.node, inputs)
            self.returned(index, raws, is_mapped=has_lists and not step.node.kind.whole_lists)
        except NotReady as need:
            self.ask(index, need.name)
        except Exception as cause:  # noqa: BLE001 - whatever a node raises becomes its NodeFailed
            self.fail(index, cause, inputs)

    def ask(self, index: int, name: str) -> None:
        """A node asked for a lazy input: compute it, then call the node again."""
        source, _ = self.steps[index].node.links[name]
        if not self.wait_for(index, source):
            heapq.heappush(self.ready, index)

    def finish(self, index: int, outputs: tuple[Any, ...], shown: Shown | None, seconds: float) -> None:
        """A step is done: keep its values, release what nobody needs, wake who waited."""
        step = self.steps[index]
        key, node = step.key, step.node
        result = Result(outputs, shown, seconds)
        if key in self.uses or key in self.retained:
            self.values[key] = outputs
            if key in self.retained:
                self.results[key] = result
        self.pending.discard(key)
        if not node.kind.effect:
            self.job.store.put(key, result, seconds)
        self.ran.append((node.id, key, seconds))
        if shown is not None:
            self.shown[node.id] = shown
        self.emit(NodeFinished(node.id, seconds, shown))
        waiters = self.dependents.pop(key, None)
        if waiters is not None:
            waiting = self.waiting
            for waiter in waiters:
                waiting[waiter] -= 1
                if not waiting[waiter]:
                    heapq.heappush(self.ready, waiter)
        self.release(node)

    def release(self, node: CheckedNode) -> None:
        """Let go of the values that only `node` still needed."""
        uses, keys_ = self.uses, self.keys
        ports = None if node.kind.is_plain else node.kind.inputs
        for name, (source, _) in node.links.items():
            if ports is not None and name in ports and ports[name].lazy:
                continue
            key = keys_[source]
            left = uses[key] - 1
            uses[key] = left
            if not left and key not in self.retained:
                self.values.pop(key, None)

    # --- failing

    def fail(self, index: int, cause: Exception, inputs: Mapping[str, Any]) -> None:
        """A node raised."""
        step = self.steps[index]
        node = step.node
        short = {n: _short(v) for n, v in inputs.items() if n != node.kind.run_parameter}
        if isinstance(cause, NodeFailed):
            error = cause
        else:
            error = NodeFailed(node=node.id, kind=node.kind.id, title=node.node.title, inputs=short, cause=cause)
            error.__cause__ = cause
        self.failures[node.id] = error
        self.failed_keys[step.key] = node.id
        self.pending.discard(step.key)
        self.emit(NodeErred(node.id, error))
        if not self.keep_going:
            raise error
        for waiter in self.dependents.pop(step.key, ()):
            self.skip(waiter, node.id)

    def skip(self, index: int, cause: str) -> None:
        """Leave out a step that depends on a failed one, and all that depend on it."""
        front = [index]
        while front:
            step = self.steps[front.pop()]
            if step.node.id in self.skipped or step.node.id in self.failures:
                continue
            self.skipped[step.node.id] = cause
            self.failed_keys[step.key] = cause
            self.pending.discard(step.key)
            self.emit(NodeSkipped(step.node.id, cause))
            front.extend(self.dependents.pop(step.key, ()))

    # --- subgraphs

    def expand(self, index: int, raws: list[Any], started: float, *, is_mapped: bool) -> None:
        """A node became a subgraph for some of its calls: check, key and schedule its parts."""
        parent = self.steps[index].node
        if self.nodes is self.job.checked.nodes:
            self.nodes = dict(self.nodes)
            self.keys = dict(self.keys)
        identities = self.identities(parent)
        parts: list[str] = []
        for number, raw in enumerate(raws):
            if type(raw) is not Expansion:
                continue
            prefix = f"{parent.id}.{number}."
            fragment = prefixed(raw.graph, prefix, identities, self.job.files)
            clash = next((i for i in fragment.nodes if i in self.nodes), None)
            if clash is not None:
                msg = f"{parent.kind.id} made a subgraph with the id {clash!r}, which exists already"
                raise WeftError(msg)
            checked = check(fragment, self.job.catalog, self.job.services.folders, context=self.nodes)
            problems = [p for p in checked.problems if not p.warning]
            if problems:
                raise WorkflowInvalid(problems, source=f"subgraph of {parent.kind.id}")
            self.nodes.update(checked.nodes)
            fragment_keys = subgraph_keys(checked, self.keys, self.job.files, self.job.salt)
            self.keys.update(fragment_keys)
            unbind(checked.nodes.values())
            wanted = [prefix + v.node for v in raw.outputs if type(v) is Link and prefix + v.node in checked.nodes]
            targets = dict.fromkeys([*wanted, *checked.effects])
            self.retained.update(self.keys[t] for t in targets)
            more = plan(checked, self.keys, targets, self.job.store, seen=self.job.seen, scheduled=self.pending)
            parts.extend(step.node.id for step in more.every)
            self.add(more.steps)
            raws[number] = Expansion(
                raw.graph,
                tuple(
                    Link(prefix + v.node, v.port) if type(v) is Link and prefix + v.node in checked.nodes else v
                    for v in raw.outputs
                ),
            )
            for target in targets:
                self.wait_for(index, target)
        self.expanding[index] = (raws, started, is_mapped)
        self.emit(NodeExpanded(parent.id, tuple(parts)))
        for raw in raws:
            if type(raw) is Expansion:
                for value in raw.outputs:
                    if type(value) is Link and value.node not in parts:
                        self.wait_for(index, value.node)
        if not self.waiting[index]:
            heapq.heappush(self.ready, index)

    def identities(self, node: CheckedNode) -> dict[int, bytes]:
        """Canonical bytes for each value that a node was given through a link, by object identity."""
        known: dict[int, bytes] = {}
        for source, port in node.links.values():
            key = self.keys[source]
            if key not in self.values:
                continue
            value = self.values[key][port]
            known[id(value)] = link_identity(key, port)
            if type(value) is Listed:
                for i, element in enumerate(value):
                    known.setdefault(id(element), link_identity(key, port, i))
        return known

    def assemble(self, index: int) -> None:
        """The parts of a subgraph are known: they are the outputs of the node that became it."""
        raws, started, is_mapped = self.expanding.pop(index)
        step = self.steps[index]
        kind = step.node.kind
        try:
            parts: list[tuple[tuple[Any, ...], Shown | None]] = []
            for raw in raws:
                if type(raw) is not Expansion:
                    parts.append(unpacked(kind, raw))
                    continue
                outputs = tuple(self.resolved(v) if type(v) is Link else v for v in raw.outputs)
                if len(outputs) != len(kind.outputs):
                    msg = f"{kind.id} has {len(kind.outputs)} outputs, but its subgraph gives {len(outputs)}"
                    raise WeftError(msg)  # noqa: TRY301 - reported as the node's failure
                parts.append((outputs, None))
            outputs, shown = merged(kind, parts, is_mapped=is_mapped)
            self.finish(index, outputs, shown, time.perf_counter() - started)
        except Exception as cause:  # noqa: BLE001 - whatever goes wrong here is the node's failure
            self.fail(index, cause, {})

    def resolved(self, link: Link) -> Any:
        """The value at a link into a subgraph."""
        node = self.nodes[link.node]
        port = node.kind.output_index(link.port)
        if port is None:
            msg = f"{node.kind.id} has no output {link.port!r}"
            raise WeftError(msg)
        return self.values[self.keys[link.node]][port]


def _digests(inputs: Mapping[str, Any]) -> dict[str, bytes]:
    digests = {}
    for name, value in inputs.items():
        try:
            digests[name] = digest(value)
        except UnencodableValue:
            continue  # opaque values guard themselves
    return digests


def _short(value: Any) -> str:
    """A value in a few words."""
    if type(value) is Listed:
        return f"list of {len(value)}"
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__}{list(shape)}"
    if isinstance(value, int | float | str | bool | None):
        text = repr(value)
        return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."
    return type(value).__name__
