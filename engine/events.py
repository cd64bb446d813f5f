"""What happened during a run, as frozen records; whoever watches is a `Sink`.

The progress bar, the JSON lines of the command line, the report and the tests read the same events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.types import Shown


class RunStarted(NamedTuple):
    """A run begins.

    Attributes:
        run: Id of the run.
        total: How many nodes the targets depend on.
        to_run: How many of them will run as far as is known.
    """

    run: str
    total: int
    to_run: int


class NodesCached(NamedTuple):
    """Nodes whose results are known and need not run."""

    nodes: tuple[str, ...]


class NodeStarted(NamedTuple):
    """A node begins to run.

    Attributes:
        node: Its id.
        kind: Its kind.
        title: Its title, possibly empty.
        reason: Why it runs, see `engine.plan.Reason`.
    """

    node: str
    kind: str
    title: str
    reason: str


class NodeProgress(NamedTuple):
    """A node is `done` of `total`; `preview` makes a small picture of what it has so far."""

    node: str
    done: float
    total: float
    preview: Callable[[], Any] | None


class NodeFinished(NamedTuple):
    """A node has run.

    Attributes:
        node: Its id.
        seconds: How long it took.
        shown: What it shows to people, or None.
    """

    node: str
    seconds: float
    shown: Shown | None


class NodeExpanded(NamedTuple):
    """A node became a subgraph; `nodes` are the ids of its parts."""

    node: str
    nodes: tuple[str, ...]


class NodeBlocked(NamedTuple):
    """A call of a node was not made, because an input is blocked; `message` says why, where somebody said so."""

    node: str
    message: str | None


class NodeErred(NamedTuple):
    """A node raised; `error` is the `NodeFailed`."""

    node: str
    error: Exception


class NodeSkipped(NamedTuple):
    """A node did not run because `cause`, which it depends on, failed."""

    node: str
    cause: str


class RunFinished(NamedTuple):
    """The run ended.

    Attributes:
        run: Id of the run.
        status: `completed`, `failed` or `cancelled`.
        seconds: How long it took.
    """

    run: str
    status: str
    seconds: float


Event = (
    RunStarted
    | NodesCached
    | NodeStarted
    | NodeProgress
    | NodeFinished
    | NodeExpanded
    | NodeBlocked
    | NodeErred
    | NodeSkipped
    | RunFinished
)


class Sink(Protocol):
    """Takes events, in order, on the thread of the run. It must not block and must not raise."""

    def __call__(self, event: Event, /) -> None:
        """Take one event."""


def event_json(event: Event) -> dict[str, Any]:
    """An event as a JSON object; `type` is its name."""
    record: dict[str, Any] = {"type": _NAMES[type(event)]}
    value: Any
    for name, value in zip(event._fields, event, strict=True):
        if name == "preview":
            continue
        if name == "shown":
            record[name] = None if value is None else value.json()
        elif name == "error":
            record[name] = {"type": type(value).__name__, "message": str(value)}
        elif name == "seconds":
            record[name] = round(value, 6)
        else:
            record[name] = value
    return record


_NAMES = {
    RunStarted: "run_started",
    NodesCached: "nodes_cached",
    NodeStarted: "node_started",
    NodeProgress: "node_progress",
    NodeFinished: "node_finished",
    NodeExpanded: "node_expanded",
    NodeBlocked: "node_blocked",
    NodeErred: "node_failed",
    NodeSkipped: "node_skipped",
    RunFinished: "run_finished",
}
