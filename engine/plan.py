"""Checked graph x targets x known keys -> the steps to run, in order, each with its reason.

Planning decides and does nothing; `execute` does and decides nothing. `weft explain` prints a plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

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


@dataclass(frozen=True, slots=True)
class Memory:
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


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will do.

    Attributes:
        targets: Ids that the run is for.
        steps: The nodes that run, sources first.
        idle: The nodes among those that the targets depend on that do not run.
    """

    targets: tuple[str, ...]
    steps: tuple[Step, ...]
    idle: tuple[Step, ...]

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
) -> Plan:
    """Decide what must run so that the targets are known.

    Args:
        checked: The graph; the targets and what they depend on must be sound.
        keys: The key of every node.
        targets: Ids of the wanted nodes.
        known: Which results are kept.
        history: What ran last under each id.
        seen: Keys of calls that ran before, kept or not.
        force: Ids that run even if their result is known.
        scheduled: Keys of calls that another plan of the same run covers.
    """
    wanted = tuple(targets)
    memory = history if history is not None else {}
    nodes = checked.nodes
    needed = set(wanted)
    cone = set(wanted)
    running: list[Step] = []
    idle: list[Step] = []
    for node_id in reversed(nodes):
        if node_id not in cone:
            continue
        node = nodes[node_id]
        kind = node.kind
        key = keys[node_id]
        links = node.links
        if node_id not in needed:
            idle.append(Step(node, key, Reason.HIT if key in known else Reason.UNNEEDED))
            for source, _ in links.values():
                cone.add(source)
            continue
        if kind.effect:
            reason = Reason.EFFECT
        elif node_id in force:
            reason = Reason.FORCED
        elif key in scheduled:
            reason = Reason.TWIN
        elif key in known:
            reason = Reason.HIT
        else:
            reason = Reason.FIRST
        if reason is Reason.HIT or reason is Reason.TWIN:
            idle.append(Step(node, key, reason))
            for source, _ in links.values():
                cone.add(source)
            continue
        before = memory.get(node_id) if memory else None
        if reason is Reason.FIRST:
            if key in seen:
                reason = Reason.EVICTED
            elif before is not None:
                reason = Reason.CHANGED
        running.append(Step(node, key, reason, before))
        if kind.is_plain:
            for source, _ in links.values():
                needed.add(source)
                cone.add(source)
        else:
            ports = kind.inputs
            for name, (source, _) in links.items():
                cone.add(source)
                if name not in ports or not ports[name].lazy:
                    needed.add(source)
    running.reverse()
    idle.reverse()
    return Plan(wanted, *_twins(running, idle))


def _twins(running: list[Step], idle: list[Step]) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Of several steps with one key only the first runs, unless they are effects."""
    if len({step.key for step in running}) == len(running):
        return tuple(running), tuple(idle)
    first: set[bytes] = set()
    kept: list[Step] = []
    for step in running:
        if step.key in first and not step.node.kind.effect:
            idle.append(Step(step.node, step.key, Reason.TWIN))
        else:
            first.add(step.key)
            kept.append(step)
    return tuple(kept), tuple(idle)


def _differs(old: CheckedNode, new: CheckedNode, name: str) -> bool:
    if old.links.get(name) != new.links.get(name):
        return True
    a: Any = old.literals.get(name)
    b: Any = new.literals.get(name)
    if a is b:
        return False
    return type(a) is not type(b) or canonical(a) != canonical(b)
