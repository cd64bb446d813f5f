"""Which steps of a run can go on, and which values must stay for those that come.

Steps come sources first, so that going through them in order finds nearly all of them ready: what a step needs is there
when its turn comes. One whose turn comes too early (it needs a coroutine, a subgraph, a step that was added late) is
parked until the last key that it waits for is there; parked steps that are ready again go first.

A value stays while somebody counts on it. What is kept elsewhere is fetched only when it is used.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from engine.cache.store import Store
    from engine.plan import Step


class Task:
    """A step under way.

    Attributes:
        index: Its place among all steps of the run.
        step: What runs, and why.
        parent: The task whose subgraph it is part of, or None.
        waiting: How many keys it still waits for.
        started: When it was called first, or None.
        asked: Names of the lazy inputs that it asked for.
        held: Keys that it counts on beside its plain inputs.
        parts: What its calls returned, once it became a subgraph.
        is_mapped: Whether it is called once for each element of a list.
        inputs: What a coroutine was called with.
        stopped: Which of its calls are not made, since an input of theirs is blocked.
        is_done: Whether it ran, failed or was left out.
    """

    __slots__ = (
        "asked",
        "held",
        "index",
        "inputs",
        "is_done",
        "is_mapped",
        "parent",
        "parts",
        "started",
        "step",
        "stopped",
        "waiting",
    )

    def __init__(self, index: int, step: Step, parent: Task | None) -> None:
        self.index = index
        self.step = step
        self.parent = parent
        self.waiting = 0
        self.started: float | None = None
        self.asked: set[str] | None = None
        self.held: list[bytes] | None = None
        self.parts: list[Any] | None = None
        self.is_mapped = False
        self.inputs: dict[str, Any] | None = None
        self.stopped: set[int] | None = None
        self.is_done = False

    @property
    def origin(self) -> Task:
        """The task of the workflow's own node that this one is part of; itself if it is one."""
        task = self
        while task.parent is not None:
            task = task.parent
        return task


class Schedule:
    """The tasks of a run and the values between them.

    Args:
        store: Where results are kept.
        keys: The key of every node; kept up to date by whoever adds nodes.
        retained: Keys whose values stay to the end.

    Attributes:
        open: Tasks that had their turn and are not done, by index.
        pending: Keys that are to come.
        values: The values that stay, by key.
    """

    def __init__(self, store: Store, keys: Mapping[str, bytes], retained: Iterable[bytes]) -> None:
        self.store = store
        self.keys = keys
        self.retained = set(retained)
        self.open: dict[int, Task] = {}
        self.pending: set[bytes] = set()
        self.values: dict[bytes, tuple[Any, ...]] = {}
        self._steps: list[Step] = []
        self._parents: dict[int, Task] = {}
        self._turn = 0
        self._ready: list[int] = []
        self._uses: dict[bytes, int] = {}
        self._waiters: dict[bytes, list[Task]] = {}

    def add(self, steps: Sequence[Step], parent: Task | None = None) -> None:
        """Take steps in, sources first. What is neither under way nor there is taken to be in the store."""
        keys, uses = self.keys, self._uses
        if parent is not None:
            first = len(self._steps)
            self._parents.update(dict.fromkeys(range(first, first + len(steps)), parent))
        self._steps.extend(steps)
        self.pending.update([step.key for step in steps])
        for step in steps:
            node = step.node
            ports = None if node.kind.is_plain else node.kind.inputs
            for name, (source, _) in node.links.items():
                if ports is not None and name in ports and ports[name].lazy:
                    continue
                key = keys[source]
                uses[key] = uses.get(key, 0) + 1

    def added(self, since: int) -> list[Step]:
        """The steps that were taken in after the first `since`."""
        return self._steps[since:]

    @property
    def has_turns(self) -> bool:
        """Whether `pop` may have a task."""
        return self._turn < len(self._steps) or bool(self._ready)

    def pop(self) -> Task | None:
        """The next task that can go on, or None if all that are left wait."""
        ready, steps = self._ready, self._steps
        while ready:
            task = self.open.get(heapq.heappop(ready))
            if task is not None:
                return task
        while self._turn < len(steps):
            index = self._turn
            self._turn = index + 1
            step = steps[index]
            task = self.open[index] = Task(index, step, self._parents.get(index))
            if self._can_start(task):
                return task
        return None

    def _can_start(self, task: Task) -> bool:
        """Whether everything that a new task needs is there; it is parked where not."""
        pending, keys = self.pending, self.keys
        node = task.step.node
        ports = None if node.kind.is_plain else node.kind.inputs
        for name, (source, _) in node.links.items():
            key = keys[source]
            if key in pending and (ports is None or name not in ports or not ports[name].lazy):
                self.wait(task, key)
        return not task.waiting

    def wake(self, task: Task) -> None:
        """Let a task go on."""
        heapq.heappush(self._ready, task.index)

    def outputs(self, key: bytes) -> tuple[Any, ...] | None:
        """The value of a key from memory or store, or None if it is nowhere."""
        found = self.values.get(key)
        if found is None:
            result = self.store.get(key)
            if result is None:
                return None
            found = result.outputs
            if self._uses.get(key) or key in self.retained:
                self.values[key] = found
        return found

    def hold(self, task: Task, key: bytes) -> None:
        """Let a value stay until `task` is done."""
        self._uses[key] = self._uses.get(key, 0) + 1
        if task.held is None:
            task.held = []
        task.held.append(key)

    def wait(self, task: Task, key: bytes) -> None:
        """Let `task` wait for a key that is under way."""
        self._waiters.setdefault(key, []).append(task)
        task.waiting += 1

    def provide(self, key: bytes, outputs: tuple[Any, ...]) -> None:
        """The value of a key is there: keep it if somebody counts on it, and let go on who waited."""
        if self._uses.get(key) or key in self.retained:
            self.values[key] = outputs
        self.pending.discard(key)
        waiters = self._waiters.pop(key, None)
        if waiters is not None:
            for task in waiters:
                task.waiting -= 1
                if not task.waiting and not task.is_done:
                    self.wake(task)

    def abandon(self, key: bytes) -> list[Task]:
        """The value of a key will not come; returns who waited for it."""
        self.pending.discard(key)
        return self._waiters.pop(key, [])

    def release(self, task: Task) -> None:
        """Let go of the values that only `task` still counted on."""
        task.is_done = True
        self.open.pop(task.index, None)
        node = task.step.node
        ports = None if node.kind.is_plain else node.kind.inputs
        uses, keys = self._uses, self.keys
        for name, (source, _) in node.links.items():
            if ports is not None and name in ports and ports[name].lazy:
                continue
            key = keys[source]
            left = uses[key] - 1
            uses[key] = left
            if not left and key not in self.retained:
                self.values.pop(key, None)
        if task.held is not None:
            for key in task.held:
                left = uses[key] - 1
                uses[key] = left
                if not left and key not in self.retained:
                    self.values.pop(key, None)
            task.held = None
