"""Which steps of a run can go on, and which values must stay for those that come.

A task waits for the keys that it needs; when the last is there, its index goes on a heap, and the lowest index runs next.
A value stays while somebody counts on it. What is kept elsewhere is fetched only when it is used.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
        is_done: Whether it ran, failed or was left out.
    """

    __slots__ = ("asked", "held", "index", "inputs", "is_done", "is_mapped", "parent", "parts", "started", "step", "waiting")

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
    """

    def __init__(self, store: Store, keys: Mapping[str, bytes], retained: Iterable[bytes]) -> None:
        self.store = store
        self.keys = keys
        self.retained = set(retained)
        self.tasks: list[Task] = []
        self.ready: list[int] = []
        self.pending: set[bytes] = set()
        self.values: dict[bytes, tuple[Any, ...]] = {}
        self._uses: dict[bytes, int] = {}
        self._waiters: dict[bytes, list[Task]] = {}

    def add(self, steps: Iterable[Step], parent: Task | None = None) -> None:
        """Take steps in, sources first. What is neither under way nor there is taken to be in the store."""
        keys, pending, uses, tasks = self.keys, self.pending, self._uses, self.tasks
        for step in steps:
            task = Task(len(tasks), step, parent)
            tasks.append(task)
            pending.add(step.key)
            node = step.node
            ports = None if node.kind.is_plain else node.kind.inputs
            for name, (source, _) in node.links.items():
                if ports is not None and name in ports and ports[name].lazy:
                    continue
                key = keys[source]
                uses[key] = uses.get(key, 0) + 1
                if key in pending:
                    self._waiters.setdefault(key, []).append(task)
                    task.waiting += 1
            if not task.waiting:
                heapq.heappush(self.ready, task.index)

    def pop(self) -> Task:
        """The next task that can go on."""
        return self.tasks[heapq.heappop(self.ready)]

    def wake(self, task: Task) -> None:
        """Let a task go on."""
        heapq.heappush(self.ready, task.index)

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
            ready = self.ready
            for task in waiters:
                task.waiting -= 1
                if not task.waiting and not task.is_done:
                    heapq.heappush(ready, task.index)

    def abandon(self, key: bytes) -> list[Task]:
        """The value of a key will not come; returns who waited for it."""
        self.pending.discard(key)
        return self._waiters.pop(key, [])

    def release(self, task: Task) -> None:
        """Let go of the values that only `task` still counted on."""
        task.is_done = True
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
