"""Runs a plan: calls nodes, keeps and releases values, emits events. Knows no HTTP and no client.

A step becomes ready when everything that it is linked to is known; ready steps run in the order of the plan. Three
things happen while running that no plan foresees: a node asks for a lazy input, a node becomes a subgraph, a result that
was kept is gone. All three add steps to the run.

Coroutine nodes run on an event loop in a thread of their own, so that waiting overlaps with computing.
"""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.cache.values import Listed, Result
from engine.calls import NotReady, Pending, blocked, blockers, calls_of, merged, unpacked, with_lists
from engine.coroutines import CoroutineThread
from engine.errors import CycleError, NodeFailed, RunCancelled, UnencodableValue, WeftError
from engine.events import NodeBlocked, NodeErred, NodeExpanded, NodeFinished, NodeProgress, NodeSkipped, NodeStarted
from engine.fingerprint import Bound, FileDigests, digest, keys
from engine.graph import Link
from engine.plan import plan
from engine.schedule import Schedule
from engine.subgraph import Surroundings, identities, prepared
from engine.types import Blocked, Expansion, Shown
from engine.validate import Checked, CheckedNode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from engine.cache.store import Store
    from engine.events import Event, Sink
    from engine.folders import Folders
    from engine.plan import Memory, Plan, Step
    from engine.schedule import Task
    from engine.schema import Catalog, Kind
    from engine.subgraph import Subgraph

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

    def off(self, wake: Callable[[], None]) -> None:
        """No longer call `wake`."""
        self._wake.remove(wake)


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


@dataclass(slots=True)
class Outcome:
    """What a run did; filled while it goes on, so that it tells also of a run that was stopped.

    Attributes:
        values: Key to result for every target that is known.
        ran: (node id, key, seconds) of every node that ran, in the order in which they finished.
        failures: Node id to error.
        failed_keys: Keys that did not come, to the id of the node at fault.
        skipped: Node id to the id of the failed node that it depends on.
        shown: Node id to what it shows.
        blocked: Ids of nodes of which calls were not made, to the message, where there is one.
        added: Steps that were added while running: lazy inputs, parts of subgraphs, results that were gone.
    """

    values: dict[bytes, Result] = field(default_factory=dict)
    ran: list[tuple[str, bytes, float]] = field(default_factory=list)
    failures: dict[str, NodeFailed] = field(default_factory=dict)
    failed_keys: dict[bytes, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)
    blocked: dict[str, str | None] = field(default_factory=dict)
    added: list[Step] = field(default_factory=list)


def execute(
    plan_: Plan,
    job: Job,
    *,
    sink: Sink | None = None,
    cancellation: Cancellation | None = None,
    keep_going: bool = False,
    verify: bool = False,
    outcome: Outcome | None = None,
) -> Outcome:
    """Run a plan.

    Args:
        plan_: What to run.
        job: What to run it on.
        sink: Takes the events, on this thread. What it raises ends the run, unchanged.
        cancellation: Stops the run when set.
        keep_going: Complete what does not depend on a failed node, instead of stopping at the first failure.
        verify: Prove that no node changes its inputs (slow).
        outcome: Filled while the run goes on; a new one when None.

    Raises:
        NodeFailed: if a node raised and `keep_going` is off.
        RunCancelled: if the run was cancelled.
    """
    execution = _Execution(
        plan_,
        job,
        sink or _ignore,
        cancellation or Cancellation(),
        Outcome() if outcome is None else outcome,
        keep_going=keep_going,
        verify=verify,
    )
    try:
        return execution.run()
    finally:
        execution.close()


def _ignore(_: object) -> None:
    pass


class _Handle:
    """What a node sees of its run."""

    __slots__ = ("_execution", "_is_async", "node")

    def __init__(self, execution: _Execution, node: str, *, is_async: bool = False) -> None:
        self._execution = execution
        self._is_async = is_async
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

    @property
    def nodes(self) -> Mapping[str, CheckedNode]:
        """The nodes of the run, with the parts of subgraphs that came while running."""
        return self._execution.nodes

    def progress(self, done: float, total: float, preview: Callable[[], Any] | None = None) -> None:
        """Report progress; raises `RunCancelled` if the run was cancelled."""
        event = NodeProgress(self.node, done, total, preview)
        if self._is_async:
            self._execution.inbox.put(event)  # a sink is called on the thread of the run only
        else:
            self._execution.emit(event)
        self.check()

    def check(self) -> None:
        """Raise `RunCancelled` if the run was cancelled."""
        if self._execution.cancellation.is_set:
            raise RunCancelled


class _Execution:
    """One run: calls what is ready, and deals with what comes of it."""

    def __init__(
        self,
        plan_: Plan,
        job: Job,
        sink: Sink,
        cancellation: Cancellation,
        outcome: Outcome,
        *,
        keep_going: bool,
        verify: bool,
    ) -> None:
        self.job = job
        self.sink = sink
        self.sink_error: Exception | None = None
        self.cancellation = cancellation
        self.outcome = outcome
        self.keep_going = keep_going
        self.verify = verify
        self.keys = job.keys
        self.nodes = job.checked.nodes
        self.homes: dict[str, tuple[Checked, Task]] = {}
        self.targets = plan_.targets
        self.gone: set[bytes] = set()
        self.tainted: set[bytes] = set()
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.wake = partial(self.inbox.put, None)
        self.loop: CoroutineThread | None = None
        self.in_flight = 0
        self.schedule = Schedule(job.store, job.keys, {job.keys[t] for t in plan_.targets})
        self.schedule.add(plan_.steps)
        self.planned = len(plan_.steps)
        self.effects = {step.node.id for step in plan_.steps if step.node.kind.effect}
        cancellation.on_set(self.wake)

    def close(self) -> None:
        """Stop what still runs."""
        self.cancellation.off(self.wake)
        if self.loop is not None:
            self.loop.close()
            self.loop = None

    def emit(self, event: Event) -> None:
        """Hand an event to the sink; what it raises is kept until the step is over, so that no node is blamed for it."""
        try:
            self.sink(event)
        except Exception as error:  # noqa: BLE001 - raised by `run`
            self.sink_error = self.sink_error or error

    def run(self) -> Outcome:
        """Run everything."""
        schedule, cancellation = self.schedule, self.cancellation
        for target in self.targets:  # what is known now may be let go before the run ends
            if self.keys[target] not in schedule.pending:
                self.need(None, target)
        while True:
            while schedule.has_turns or self.in_flight:
                if cancellation.is_set:
                    raise RunCancelled
                if self.in_flight and not self.inbox.empty():
                    self.collect()
                    continue
                task = schedule.pop()
                if task is None:
                    if self.in_flight:
                        self.collect()
                    continue
                if task.parts is not None:
                    self.assemble(task)
                elif self.outcome.failed_keys and (culprit := self.culprit(task)) is not None:
                    self.skip(task, culprit)
                else:
                    self.step(task)
                if self.sink_error is not None:
                    raise self.sink_error
            if not schedule.pending:
                break
            self.stuck()
        for target in self.targets:
            key = self.keys[target]
            if key not in self.outcome.values and key in schedule.values:
                self.outcome.values[key] = Result(schedule.values[key])
        self.outcome.added = schedule.added(self.planned)
        return self.outcome

    def stuck(self) -> None:
        """Nothing is ready and nothing is under way, yet tasks wait: a subgraph waits for itself."""
        left = list(self.schedule.open.values())
        self.schedule.pending.clear()
        path = [task.step.node.id for task in left]
        culprit = left[0].origin
        self.fail(culprit if not culprit.is_done else left[0], CycleError([*path[:8], path[0]]), {})
        for task in left:
            if not task.is_done:
                self.skip(task, culprit.step.node.id)

    # --- calling

    def step(self, task: Task) -> None:
        """Call the node of a task."""
        step = task.step
        node = step.node
        kind = node.kind
        if task.started is None:
            self.emit(NodeStarted(node.id, kind.id, node.node.title, step.reason.value))
            task.started = time.perf_counter()
        inputs = node.literals.copy()
        try:
            values, keys_ = self.schedule.values, self.keys
            lazy = None if kind.is_plain else kind.inputs
            has_lists = is_short = is_blocked = False
            for name, (source, port) in node.links.items():
                if lazy is not None and name in lazy and lazy[name].lazy and (task.asked is None or name not in task.asked):
                    inputs[name] = Pending(name)
                    continue
                key = keys_[source]
                outputs = values.get(key)
                if outputs is None:
                    outputs = self.schedule.outputs(key)
                    if outputs is None:  # it was let go since the plan was made
                        self.wait_for(task, source)
                        is_short = True
                        continue
                value = outputs[port]
                if type(value) is Listed:
                    has_lists = True
                elif value is None:
                    self.refuse_absent(node, name)
                elif type(value) is Blocked:
                    is_blocked = True
                inputs[name] = value
            if is_short:
                return
            if is_blocked:
                self.block(task, inputs)
                self.finish(task, blocked(kind), None)
                return
            if kind.is_plain and not has_lists and not self.verify:
                if kind.run_parameter is not None:
                    inputs[kind.run_parameter] = _Handle(self, node.id)
                raw = kind.function(**inputs)
                if type(raw) is not Expansion:
                    self.finish(task, *(((raw,), None) if kind.is_value else unpacked(kind, raw)))
                    return
                self.returned(task, [raw])
                return
            task.is_mapped = has_lists and not kind.whole_lists
            self.call(task, inputs, calls_of(kind, inputs, has_lists=has_lists))
        except NotReady as need:
            self.ask(task, need.names)
        except Exception as cause:  # noqa: BLE001 - whatever a node raises becomes its NodeFailed
            self.fail(task, cause, inputs)

    def block(self, task: Task, inputs: Mapping[str, Any]) -> bool:
        """Whether inputs stop a call; says so if they do."""
        found = blockers(inputs)
        if not found:
            return False
        message = next((b.message for b in found if b.message is not None), None)
        node_id = task.step.node.id
        if self.outcome.blocked.get(node_id) is None:
            self.outcome.blocked[node_id] = message
        self.emit(NodeBlocked(node_id, message))
        return True

    def call(self, task: Task, inputs: dict[str, Any], calls: list[dict[str, Any]]) -> None:
        """Make the calls that the inputs of a task stand for."""
        node, kind = task.step.node, task.step.node.kind
        if kind.run_parameter is not None:
            for call in calls:
                call[kind.run_parameter] = _Handle(self, node.id, is_async=kind.is_async)
        if kind.needs is not None:
            wanted = {name: None for call in calls if not blockers(call) for name in kind.needs(**call)}
            absent = [name for name in wanted if type(inputs.get(name)) is Pending]
            if absent:
                raise NotReady(*absent)
        task.stopped = {i for i, call in enumerate(calls) if self.block(task, call)}
        if task.stopped:
            calls = [call for i, call in enumerate(calls) if i not in task.stopped]
            if not calls:
                self.returned(task, [])
                return
        if kind.is_async:
            if self.loop is None:
                self.loop = CoroutineThread(self.inbox)
            self.in_flight += 1
            task.inputs = inputs
            function = _verified_async(node) if self.verify else kind.function
            self.loop.start(task.index, function, calls)
            return
        raws = []
        for call in calls:
            if self.cancellation.is_set:
                raise RunCancelled
            before = _digests(call) if self.verify else None
            raws.append(kind.function(**call))
            if before is not None:
                _prove_unchanged(node, before, call)
        self.returned(task, raws)

    def returned(self, task: Task, raws: list[Any]) -> None:
        """Take what the calls of a task returned."""
        if task.stopped:
            made = iter(raws)
            raws = [_NOT_MADE if i in task.stopped else next(made) for i in range(len(raws) + len(task.stopped))]
            task.stopped = None
        if any(type(raw) is Expansion for raw in raws):
            self.expand(task, raws)
            return
        kind = task.step.node.kind
        self.finish(task, *merged(kind, [_result(kind, raw) for raw in raws], is_mapped=task.is_mapped))

    def collect(self) -> None:
        """Take one message of the coroutines, waiting for it."""
        message = self.inbox.get()
        if message is None:
            return
        if isinstance(message, NodeProgress):
            self.emit(message)
            return
        self.in_flight -= 1
        task = self.schedule.open.get(message.task)
        if task is None:
            return
        inputs, task.inputs = task.inputs or {}, None
        try:
            if message.error is not None:
                raise message.error  # noqa: TRY301 - the same path as for plain nodes
            self.returned(task, message.results)
        except NotReady as need:
            self.ask(task, need.names)
        except RunCancelled:
            raise
        except BaseException as cause:  # noqa: BLE001 - a coroutine may end with SystemExit; it is the node's failure
            self.fail(task, cause, inputs)

    def ask(self, task: Task, names: Iterable[str]) -> None:
        """A node asked for lazy inputs: compute them, then call the node again."""
        if task.asked is None:
            task.asked = set()
        task.asked.update(names)
        waits = [self.need(task, task.step.node.links[name][0]) for name in names]
        if not any(waits):
            self.schedule.wake(task)

    def need(self, task: Task | None, source: str) -> bool:
        """Let `task` count on the value of a node; True if it has to wait for it."""
        key = self.keys[source]
        if task is None:
            self.schedule.retained.add(key)
        else:
            self.schedule.hold(task, key)
        if key not in self.schedule.pending and self.schedule.outputs(key) is not None:
            return False
        self.wait_for(task, source)
        return True

    def wait_for(self, task: Task | None, source: str) -> None:
        """Let `task` wait for a node, which is planned if it is not under way."""
        key = self.keys[source]
        if key in self.outcome.failed_keys:
            if task is not None:
                self.skip(task, self.outcome.failed_keys[key])
            return
        if key not in self.schedule.pending:
            self.gone.add(key)
            checked, parent = self.homes.get(source, (self.job.checked, None))
            self.plan(checked, (source,), parent)
        if task is not None:
            self.schedule.wait(task, key)

    def plan(self, checked: Checked, targets: Iterable[str], parent: Task | None) -> Plan:
        """Plan and schedule nodes while the run is under way."""
        more = plan(
            checked,
            self.keys,
            targets,
            _Without(self.job.store, self.gone),
            history=self.job.history,
            seen=self.job.seen,
            scheduled=self.schedule.pending,
            covered=self.effects,
        )
        self.effects.update(step.node.id for step in more.steps if step.node.kind.effect)
        self.schedule.add(more.steps, parent)
        return more

    def finish(self, task: Task, outputs: tuple[Any, ...], shown: Shown | None) -> None:
        """A task is done: keep its values, release what nobody needs, let go on who waited."""
        step = task.step
        key, node, schedule = step.key, step.node, self.schedule
        kind = node.kind
        seconds = time.perf_counter() - (task.started or 0.0)
        if kind.effect:
            if outputs:
                schedule.retained.add(key)  # it will not run again for whoever asks later
        elif (kind.has_files or self.tainted) and self.is_tainted(task):
            self.tainted.add(key)
            schedule.retained.add(key)  # it is kept nowhere else
        else:
            self.gone.discard(key)
            self.job.store.put(key, Result(outputs, shown, seconds), seconds)
        if key in schedule.retained:
            self.outcome.values[key] = Result(outputs, shown, seconds)
        schedule.provide(key, outputs)
        schedule.release(task)
        self.outcome.ran.append((node.id, key, seconds))
        if shown is not None:
            self.outcome.shown[node.id] = shown
        self.emit(NodeFinished(node.id, seconds, shown))

    def is_tainted(self, task: Task) -> bool:
        """Whether a file changed between naming and reading it, so that the key is not the name of this result."""
        node = task.step.node
        if any(self.keys[source] in self.tainted for source, _ in node.links.values()):
            return True
        if not node.kind.has_files:
            return False
        # A part of a subgraph: the key names the values that it was given by their origin, which its node still knows.
        given = {name: value for name, value in node.node.inputs.items() if type(value) is Bound}
        named = CheckedNode(node.id, node.node, node.kind, {**node.literals, **given}, node.links, node.folders)
        alone = Checked(self.job.checked.graph, {node.id: named}, ())
        try:
            return keys(alone, self.job.files, salt=self.job.salt, outer=self.keys)[node.id] != task.step.key
        except (WeftError, OSError):
            return True  # the file is gone

    def refuse_absent(self, node: CheckedNode, name: str) -> None:
        """Refuse a part of a model that its file does not hold; for other types None is a value."""
        port = node.kind.inputs.get(name)
        if port is not None and port.required and port.type in _PARTS:
            source = self.nodes[node.links[name][0]]
            msg = f"{name!r} is empty: node {source.id} ({source.kind.id}) found no {port.type}; load one from another file"
            raise WeftError(msg)

    # --- failing

    def fail(self, task: Task, cause: BaseException, inputs: Mapping[str, Any]) -> None:
        """A node raised. What waits for it is left out; the node that became the subgraph it is part of fails with it."""
        failing: list[tuple[Task, BaseException, Mapping[str, Any]]] = [(task, cause, inputs)]
        while failing:
            task, cause, inputs = failing.pop()
            if task.is_done:
                continue
            node = task.step.node
            error = self.failure(task, cause, inputs)
            self.outcome.failures[node.id] = error
            self.outcome.failed_keys[task.step.key] = node.id
            self.schedule.release(task)
            self.emit(NodeErred(node.id, error))
            if not self.keep_going:
                raise error
            for waiter in self.schedule.abandon(task.step.key):
                if waiter.parts is not None:
                    failing.append((waiter, error, {}))
                else:
                    self.skip(waiter, node.id)

    def failure(self, task: Task, cause: BaseException, inputs: Mapping[str, Any]) -> NodeFailed:
        """The error that names a node, its inputs in short, and the cause."""
        node = task.step.node
        origin = task.origin.step.node
        error = NodeFailed(
            node=node.id,
            kind=node.kind.id,
            title=node.node.title,
            inputs={n: _short(v) for n, v in inputs.items() if n != node.kind.run_parameter},
            cause=cause,
            origin=(origin.id, origin.title) if origin is not node else None,
        )
        error.__cause__ = cause
        return error

    def culprit(self, task: Task) -> str | None:
        """Id of the failed node that a task depends on, or None. A lazy input is none that it depends on."""
        node, failed = task.step.node, self.outcome.failed_keys
        ports = node.kind.inputs
        for name, (source, _) in node.links.items():
            if self.keys[source] in failed and not (name in ports and ports[name].lazy):
                return failed[self.keys[source]]
        return None

    def skip(self, task: Task, cause: str) -> None:
        """Leave out a task that depends on a failed one, and all that depend on it."""
        front = [task]
        while front:
            task = front.pop()
            if task.is_done:
                continue
            node = task.step.node
            self.outcome.skipped[node.id] = cause
            self.outcome.failed_keys[task.step.key] = cause
            self.schedule.release(task)
            self.emit(NodeSkipped(node.id, cause))
            front.extend(self.schedule.abandon(task.step.key))

    # --- subgraphs

    def expand(self, task: Task, raws: list[Any]) -> None:
        """A node became a subgraph for some of its calls: check and key all parts, then schedule them."""
        parent = task.step.node
        around = Surroundings(
            nodes=self.nodes,
            keys=self.keys,
            identities=identities(parent, self.keys, self.schedule.values),
            catalog=self.job.catalog,
            folders=self.job.services.folders,
            files=self.job.files,
            salt=self.job.salt,
        )
        found: list[Subgraph] = []
        for number, raw in enumerate(raws):
            if type(raw) is Expansion:
                found.append(prepared(raw, parent, number, around))
                raws[number] = Expansion(raw.graph, found[-1].outputs, raw.shown)
        if self.nodes is self.job.checked.nodes:
            self.nodes, self.keys = dict(self.nodes), dict(self.keys)
            self.schedule.keys = self.keys
        parts: list[str] = []
        needed: list[str] = []
        for subgraph in found:
            self.nodes.update(subgraph.checked.nodes)
            self.keys.update(subgraph.keys)
            self.homes.update(dict.fromkeys(subgraph.checked.nodes, (subgraph.checked, task)))
            more = self.plan(subgraph.checked, subgraph.targets, task)
            parts.extend(step.node.id for step in more.every)
            links = [value.node for value in subgraph.outputs if type(value) is Link]
            needed.extend(dict.fromkeys([*links, *subgraph.targets]))
        task.parts = raws
        self.emit(NodeExpanded(parent.id, tuple(parts)))
        for node_id in needed:
            if not task.is_done:
                self.need(task, node_id)
        if not task.waiting and not task.is_done:
            self.schedule.wake(task)

    def assemble(self, task: Task) -> None:
        """The parts of a subgraph are known: they are the outputs of the node that became it."""
        kind = task.step.node.kind
        assert task.parts is not None  # noqa: S101 - the caller looked
        links = {v.node for raw in task.parts if type(raw) is Expansion for v in raw.outputs if type(v) is Link}
        absent = [node_id for node_id in links if self.schedule.outputs(self.keys[node_id]) is None]
        for node_id in absent:  # let go in the meantime
            self.wait_for(task, node_id)
        if absent:
            return
        try:
            results: list[tuple[tuple[Any, ...], Shown | None]] = []
            for raw in task.parts:
                if type(raw) is not Expansion:
                    results.append(_result(kind, raw))
                    continue
                outputs = tuple(self.resolved(v) if type(v) is Link else v for v in raw.outputs)
                if len(outputs) != len(kind.outputs):
                    msg = f"{kind.id} has {len(kind.outputs)} outputs, but its subgraph gives {len(outputs)}"
                    raise WeftError(msg)  # noqa: TRY301 - reported as the node's failure
                results.append((with_lists(kind, outputs), raw.shown))
            self.finish(task, *merged(kind, results, is_mapped=task.is_mapped))
        except Exception as cause:  # noqa: BLE001 - whatever goes wrong here is the node's failure
            self.fail(task, cause, {})

    def resolved(self, link: Link) -> Any:
        """The value at a link into a subgraph."""
        node = self.nodes[link.node]
        port = node.kind.output_index(link.port)
        outputs = self.schedule.outputs(self.keys[link.node])
        if port is None or outputs is None:
            msg = f"{node.kind.id} has no output {link.port!r}"
            raise WeftError(msg)
        return outputs[port]


_NOT_MADE = object()
"""Stands for what a call would have returned that was not made."""


def _result(kind: Kind, raw: Any) -> tuple[tuple[Any, ...], Shown | None]:
    """(outputs, shown) of what a call returned, or of one that was not made."""
    return (blocked(kind), None) if raw is _NOT_MADE else unpacked(kind, raw)


class _Without:
    """A store seen without the keys that turned out to be gone."""

    __slots__ = ("_gone", "_store")

    def __init__(self, store: Store, gone: Collection[bytes]) -> None:
        self._store = store
        self._gone = gone

    def __contains__(self, key: object) -> bool:
        """Whether the result of the call `key` is kept, as far as is known."""
        return key not in self._gone and key in self._store


def _verified_async(node: CheckedNode) -> Callable[..., Any]:
    """The function of a coroutine node, proving that it leaves its inputs alone."""

    async def verified(**inputs: Any) -> Any:
        before = _digests(inputs)
        raw = await node.kind.function(**inputs)
        _prove_unchanged(node, before, inputs)
        return raw

    return verified


def _prove_unchanged(node: CheckedNode, before: Mapping[str, bytes], inputs: Mapping[str, Any]) -> None:
    after = _digests(inputs)
    changed = [name for name in before if before[name] != after.get(name)]
    if changed:
        msg = f"{node.kind.id} changed its input {changed[0]!r}; values are immutable, return a new one"
        raise WeftError(msg)


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
