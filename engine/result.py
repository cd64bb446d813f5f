"""What a run gives: the values of its ports, what it showed, and a report of what each node did."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from engine.errors import WeftError
from engine.plan import Plan, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from engine.cache import Store
    from engine.errors import NodeFailed
    from engine.execute import Outcome
    from engine.types import Shown
    from engine.validate import Checked


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a report.

    Attributes:
        node: Id of the node.
        kind: Its kind.
        title: What people call it.
        state: `ran` (calls of which an input is blocked are not made), `hit`, `failed`, `skipped`, or `idle` (nobody needed
            it).
        reason: Why, as `engine.plan.Reason` says it.
        because: The reason with the inputs that changed.
        seconds: How long it took; 0 if it did not run.
    """

    node: str
    kind: str
    title: str
    state: str
    reason: str
    because: str
    seconds: float


class Report:
    """What a run did, node by node: a sequence of entries in the order of the plan.

    Attributes:
        seconds: How long the run took.
    """

    def __init__(self, steps: Plan, outcome: Outcome, seconds: float) -> None:
        self._plan = steps
        self._outcome = outcome
        self.seconds = seconds

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """One for each node that the targets depend on, and for each part of a subgraph."""
        return _entries(self._plan, self._outcome)

    def __len__(self) -> int:
        """How many entries there are."""
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        """The entries."""
        return iter(self.entries)

    def __getitem__(self, node: str) -> Entry:
        """The entry of a node."""
        for entry in self.entries:
            if entry.node == node:
                return entry
        msg = f"the run did not touch node {node!r}"
        raise WeftError(msg)

    @property
    def ran(self) -> tuple[str, ...]:
        """Ids of the nodes that ran."""
        return tuple(e.node for e in self.entries if e.state == "ran")

    @property
    def blocked(self) -> dict[str, str | None]:
        """Ids of the nodes of which calls were not made since an input is blocked, to what was said about it."""
        return dict(self._outcome.blocked)

    @property
    def hits(self) -> tuple[str, ...]:
        """Ids of the nodes whose results were known."""
        return tuple(e.node for e in self.entries if e.state == "hit")


class Value:
    """A value of a port, with its tensors under the names that reference vectors use."""

    __slots__ = ("type", "value")

    def __init__(self, value: Any, type_name: str) -> None:
        self.value = value
        self.type = type_name

    def tensors(self) -> dict[str, Any]:
        """The tensors of a value by field name; a bare tensor is called `tensor`."""
        return tensors_of(self.value)


def tensors_of(value: Any) -> dict[str, Any]:
    """The tensors of a value by field name; a bare tensor is called `tensor`.

    Raises:
        WeftError: if the value holds no tensors.
    """
    named = getattr(value, "tensors", None)
    if callable(named):
        return dict(named())
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return {"tensor": value}
    msg = f"a {type(value).__name__} holds no tensors"
    raise WeftError(msg)


@dataclass(frozen=True)
class RunResult:
    """What a run gives.

    Attributes:
        report: What each node did.
        shown: Node id to what it shows to people (files, text).
        failures: Node id to error; empty unless the run was to keep going.
    """

    report: Report
    shown: Mapping[str, Shown]
    failures: Mapping[str, NodeFailed]
    _checked: Checked = field(repr=False)
    _keys: dict[str, bytes] = field(repr=False)
    _outcome: Outcome = field(repr=False)
    _store: Store = field(repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the run wrote, in the order of writing."""
        return tuple(f.path for node, _, _ in self._outcome.ran if node in self.shown for f in self.shown[node].files)

    def value(self, node: str, port: int | str = 0) -> Any:
        """The value of an output; a tensor among the values has a method `tensors` as the value types do.

        Args:
            node: Id or unique title of the node.
            port: Index or name of the output.

        Raises:
            WeftError: if there is no such output, or its value is no longer kept.
        """
        return typed(self.port(node, port).value)

    def port(self, node: str, port: int | str = 0) -> Value:
        """The value of an output with its type; see `value`."""
        node_id = node if node in self._checked.nodes else self._checked.graph.find(node)
        checked = self._checked.nodes.get(node_id)
        if checked is None:
            msg = f"node {node_id!r} is not sound, so it has no value"
            raise WeftError(msg)
        index = checked.kind.output_index(port)
        if index is None:
            names = ", ".join(f"{i} {o.name}" for i, o in enumerate(checked.kind.outputs)) or "none"
            msg = f"node {node_id} ({checked.kind.id}) has no output {port!r}; its outputs: {names}"
            raise WeftError(msg)
        key = self._keys[node_id]
        result = self._outcome.values.get(key) or self._store.get(key)
        if result is None:
            msg = f"the value of node {node_id} ({checked.kind.id}) is not kept; name it among the targets of the run"
            raise WeftError(msg)
        return Value(result.outputs[index], checked.kind.outputs[index].type)


def typed(value: Any) -> Any:
    """A value whose tensors can be asked for: a bare tensor is copied and gains a method `tensors`; others are as they are."""
    if type(value).__module__ == "torch" and type(value).__name__ == "Tensor":
        return value.clone().as_subclass(_tensor_type())
    return value


@cache
def _tensor_type() -> Any:
    """The type of tensors that name themselves: an ordinary tensor, whose operations give ordinary tensors."""
    import torch

    class PortTensor(torch.Tensor):
        """A tensor that was the value of a port."""

        __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # noqa: SLF001 - opts out

        def tensors(self) -> dict[str, Any]:
            """The tensor under the name that reference vectors use."""
            return {"tensor": self.as_subclass(torch.Tensor)}

    return PortTensor


def _entries(steps: Plan, outcome: Outcome) -> tuple[Entry, ...]:
    seconds = {node_id: taken for node_id, _, taken in outcome.ran}
    entries: dict[str, Entry] = {}
    for step in (*outcome.added, *steps.every):  # what was added while running knows better than the plan
        node = step.node
        if node.id in entries:
            continue
        if node.id in seconds:
            state = "ran"
        elif node.id in outcome.failures:
            state = "failed"
        elif node.id in outcome.skipped or step.key in outcome.failed_keys:
            state = "skipped"
        elif step.reason in _IDLE:
            state = "idle" if step.reason is Reason.LAZY else "hit"
        else:
            state = "idle"  # the run ended before it
        taken = seconds.get(node.id, 0.0)
        entries[node.id] = Entry(node.id, node.kind.id, node.title, state, step.reason.value, step.because, taken)
    planned = [step.node.id for step in steps.every]
    added = [step.node.id for step in outcome.added]
    return tuple(entries[node_id] for node_id in dict.fromkeys([*planned, *added]))


_IDLE = frozenset({Reason.HIT, Reason.TWIN, Reason.UNNEEDED, Reason.LAZY})
