"""Checked graph x targets x known keys -> the steps to run, in order, each with its reason.

Planning decides and does nothing; `execute` does and decides nothing. `weft explain` prints a plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from engine.fingerprint import canonical

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from engine.validate import Checked, CheckedNode


class Reason(StrEnum):
    """Why a node runs or does not."""

    FIRST = "first run"
    CHANGED = "changed"
    EVICTED = "evicted"
    EFFECT = "effect"
    FORCED = "forced"
    HIT = "hit"
    TWIN = "twin"
    UNNEEDED = "unneeded"
    LAZY = "lazy"

    # HIT: the result is known. TWIN: an equal call runs in this plan. UNNEEDED: what depends on it is known.
    # LAZY: nobody has asked for it yet.


class Known(Protocol):
    """Tells whether the result of a call is kept."""

    def __contains__(self, key: object, /) -> bool:
        """Whether the result of the call `key` is kept."""


class Memory(NamedTuple):
    """What ran last under an id."""

    key: bytes
    node: CheckedNode


class Step:
    """One node of a plan.

    Attributes:
        node: The node.
        key: The key of its call.
        reason: Why it runs, or why not.
        before: What ran last under its id, if anything.
    """

    __slots__ = ("before", "key", "node", "reason")

    def __init__(self, node: CheckedNode, key: bytes, reason: Reason, before: Memory | None = None) -> None:
        self.node = node
        self.key = key
        self.reason = reason
        self.before = before

    @property
    def runs(self) -> bool:
        """Whether the node will run."""
        return self.reason in _RUNS

    @property
    def changes(self) -> tuple[str, ...]:
        """Names of the inputs that differ from the last run; empty where the reason is another."""
        if self.before is None or self.reason is not Reason.CHANGED:
            return ()
        old, new = self.before.node, self.node
        names = dict.fromkeys([*new.kind.inputs, *new.literals, *new.links, *old.literals, *old.links])
        changed = [n for n in names if _differs(old, new, n)]
        return tuple(changed) or tuple(new.links)

    @property
    def because(self) -> str:
        """The reason as words."""
        changes = self.changes
        return f"{self.reason.value}: {', '.join(changes)}" if changes else self.reason.value


_RUNS = frozenset({Reason.FIRST, Reason.CHANGED, Reason.EVICTED, Reason.EFFECT, Reason.FORCED})


@dataclass(frozen=True, eq=False)
class Plan:
    """What a run will do.

    Attributes:
        targets: Ids that the run is for.
        steps: The nodes that run, sources first.
        total: How many nodes the targets depend on, themselves included.
    """

    targets: tuple[str, ...]
    steps: tuple[Step, ...]
    total: int
    _checked: Checked = field(repr=False)
    _keys: Mapping[str, bytes] = field(repr=False)
    _stopped: Mapping[str, Reason] = field(repr=False)

    @property
    def known(self) -> tuple[str, ...]:
        """Ids of the nodes that the targets depend on and that need not run."""
        cone, stopped = self._checked.ordered_cone(self.targets), self._stopped
        if not self.steps:
            return cone
        absent = {step.node.id for step in self.steps}
        absent.update(i for i, reason in stopped.items() if reason is Reason.LAZY)
        if any(reason is Reason.LAZY for reason in stopped.values()):
            absent.update(self._only_for_lazy())
        return tuple(i for i in cone if i not in absent)

    @cached_property
    def idle(self) -> tuple[Step, ...]:
        """The nodes among those that the targets depend on that do not run, sources first."""
        nodes, keys, stopped = self._checked.nodes, self._keys, self._stopped
        running = {step.node.id for step in self.steps}
        lazy = self._only_for_lazy() if Reason.LAZY in stopped.values() else frozenset()
        return tuple(
            Step(nodes[i], keys[i], stopped.get(i, Reason.LAZY if i in lazy else Reason.UNNEEDED))
            for i in self._checked.ordered_cone(self.targets)
            if i not in running
        )

    def _only_for_lazy(self) -> frozenset[str]:
        """Ids of the nodes that stand above lazy inputs which nobody asked for yet, and that nothing else stopped at."""
        lazy = tuple(i for i, reason in self._stopped.items() if reason is Reason.LAZY)
        known = tuple(i for i, reason in self._stopped.items() if reason is not Reason.LAZY)
        above = set(self._checked.ordered_cone(lazy)) - set(self._checked.ordered_cone(known))
        return frozenset(above - {step.node.id for step in self.steps})

    @property
    def every(self) -> tuple[Step, ...]:
        """All steps, those that run first."""
        return (*self.steps, *self.idle)


def plan(
    checked: Checked,
    keys: Mapping[str, bytes],
    targets: Iterable[str],
    known: Known,
    *,
    history: Mapping[str, Memory] | None = None,
    seen: Collection[bytes] = (),
    force: Collection[str] = (),
    scheduled: Collection[bytes] = (),
    covered: Collection[str] = (),
) -> Plan:
    """Decide what must run so that the targets are known.

    Walks from the targets towards the sources and stops where a result is known, so that the cost is that of what runs.

    Args:
        checked: The graph; the targets and what they depend on must be sound.
        keys: The key of every node.
        targets: Ids of the wanted nodes.
        known: Which results are kept.
        history: What ran last under each id.
        seen: Keys of calls that ran before, kept or not.
        force: Ids that run even if their result is known, where the targets depend on them.
        scheduled: Keys of calls that another plan of the same run covers.
        covered: Ids of effects that another plan of the same run covers.
    """
    wanted = tuple(targets)
    nodes, place = checked.nodes, checked.place
    roots = [*wanted, *(i for i in checked.ordered_cone(wanted) if i in force)] if force else list(wanted)
    reasons, stopped = _walked(checked, keys, roots, known, force, scheduled, covered)
    memory = history if history is not None else {}
    steps = []
    for node_id in nodes if len(reasons) == len(nodes) else sorted(reasons, key=place.__getitem__):
        key, reason, before = keys[node_id], reasons[node_id], memory.get(node_id)
        if reason is Reason.FIRST:
            if key in seen:
                reason = Reason.EVICTED
            elif before is not None:
                reason = Reason.CHANGED
        steps.append(Step(nodes[node_id], key, reason, before))
    if not stopped:  # the walk saw everything that the targets depend on
        checked.remember_cone(wanted, tuple([step.node.id for step in steps]))
    return Plan(wanted, _without_twins(steps, stopped), len(checked.ordered_cone(wanted)), checked, keys, stopped)


def _walked(
    checked: Checked,
    keys: Mapping[str, bytes],
    front: list[str],
    known: Known,
    force: Collection[str],
    scheduled: Collection[bytes],
    covered: Collection[str],
) -> tuple[dict[str, Reason], dict[str, Reason]]:
    """(what runs, where the walk towards the sources stopped), each with its reason; FIRST stands for "not known"."""
    nodes = checked.nodes
    first, twin, hit, effect, forced = Reason.FIRST, Reason.TWIN, Reason.HIT, Reason.EFFECT, Reason.FORCED
    reasons: dict[str, Reason] = {}
    stopped: dict[str, Reason] = {}
    lazy: list[str] = []
    while front:
        node_id = front.pop()
        if node_id in reasons or node_id in stopped:
            continue
        node = nodes.get(node_id)
        if node is None:
            continue  # a node around a subgraph
        kind = node.kind
        if node_id in covered:
            stopped[node_id] = twin
            continue
        if kind.effect:
            reasons[node_id] = effect
        elif node_id in force:
            reasons[node_id] = forced
        else:
            key = keys[node_id]
            if key in scheduled:
                stopped[node_id] = twin
                continue
            if key in known:
                stopped[node_id] = hit
                continue
            reasons[node_id] = first
        if kind.is_plain:
            front.extend([source for source, _ in node.links.values()])
        else:
            ports = kind.inputs
            for name, (source, _) in node.links.items():
                (lazy if name in ports and ports[name].lazy else front).append(source)
    for node_id in lazy:
        if node_id not in reasons and node_id not in stopped:
            stopped[node_id] = hit if keys[node_id] in known else Reason.LAZY
    return reasons, stopped


def _without_twins(steps: list[Step], stopped: dict[str, Reason]) -> tuple[Step, ...]:
    """The steps, of several with one key only the first, unless they are effects."""
    if len({step.key for step in steps}) == len(steps):
        return tuple(steps)
    first: set[bytes] = set()
    kept: list[Step] = []
    for step in steps:
        if step.key in first and not step.node.kind.effect:
            stopped[step.node.id] = Reason.TWIN
        else:
            first.add(step.key)
            kept.append(step)
    return tuple(kept)


def _differs(old: CheckedNode, new: CheckedNode, name: str) -> bool:
    if old.links.get(name) != new.links.get(name):
        return True
    a: Any = old.literals.get(name)
    b: Any = new.literals.get(name)
    if a is b:
        return False
    return type(a) is not type(b) or canonical(a) != canonical(b)
