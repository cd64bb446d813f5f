"""Sinks of events for whoever watches: bars on a terminal, lines of JSON, or nothing."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, Self

from engine.cli.console import emit, is_terminal, lasting
from engine.events import (
    NodeBlocked,
    NodeErred,
    NodeExpanded,
    NodeFinished,
    NodeProgress,
    NodesCached,
    NodeSkipped,
    NodeStarted,
    RunFinished,
    RunStarted,
    event_json,
)

if TYPE_CHECKING:
    from types import TracebackType

    from engine.events import Event

SLOW_SECONDS = 0.5
"""A node that took longer leaves a line behind."""

ESTIMATE_SECONDS = 3600.0
"""The time that is left is judged by the pace over this long."""


class Watcher(Protocol):
    """A sink that is open for a while."""

    def __enter__(self) -> Self:
        """Open it."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /) -> None:
        """Close it."""

    def __call__(self, event: Event, /) -> None:
        """Take one event."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def watcher(*, as_json: bool, is_watched: bool) -> Watcher:
    """What shows the events of a run: JSON lines, bars where a person watches standard error, or nothing."""
    if as_json:
        return Lines()
    return Bars() if is_watched else Silence()


class Silence:
    """Shows nothing."""

    def __enter__(self) -> Self:
        """Nothing to open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""

    def __call__(self, event: Event, /) -> None:
        """Ignore the event."""

    def close(self) -> None:
        """Nothing to restore."""


class Lines(Silence):
    """Every event as a line of JSON."""

    def __enter__(self) -> Self:
        """Nothing to open."""
        return self

    def __call__(self, event: Event, /) -> None:
        """Write the event."""
        emit(event_json(event))


class Bars(Silence):
    """A bar for the nodes of the run and one for the steps of the node that runs, on standard error.

    Args:
        variations: How many runs there will be; more than 0 adds a bar for them, with the time that is left.
    """

    def __init__(self, variations: int = 0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=is_terminal(sys.stdout),  # a pipe gets what is printed, not the console
            speed_estimate_period=ESTIMATE_SECONDS,
        )
        self._batch = self._progress.add_task("variations", total=variations) if variations else None
        self._run: Any = None
        self._node: Any = None
        self._names: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self._steps: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Draw the bars."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bars."""
        self._progress.stop()

    def close(self) -> None:
        """Remove the bars and show the cursor."""
        self._progress.stop()

    def __call__(self, event: Event, /) -> None:
        """Show the event."""
        match event:
            case RunStarted(_, total, to_run):
                self._names.clear()
                if self._run is None:
                    self._run = self._progress.add_task("nodes", total=to_run)
                    self._node = self._progress.add_task("", total=1, visible=False)
                else:
                    self._progress.reset(self._run, total=to_run)
                if total > to_run:
                    self._progress.update(self._run, description=f"nodes ({total - to_run} cached)")
            case NodeStarted(node, kind, title, _):
                self._names[node] = title or kind
                self._started[node] = time.perf_counter()
                self._progress.reset(self._node, total=1, visible=True, description=f"  {_fitted(title or kind)}")
            case NodeProgress(node, done, total, _):
                name = _fitted(self._names.get(node, node))
                self._steps[node] = total
                self._progress.update(self._node, description=f"  {name}", completed=done, total=total, visible=True)
            case NodeFinished(node, seconds, _):
                self._finished(node, seconds)
            case NodeExpanded(_, parts):
                self._widen(len(parts))
            case NodeErred() | NodeSkipped():
                self._progress.advance(self._run)
            case RunFinished():
                self._progress.update(self._node, visible=False)
            case NodesCached() | NodeBlocked():
                pass

    def variation_done(self) -> None:
        """One of the runs is over."""
        if self._batch is not None:
            self._progress.advance(self._batch)

    def _finished(self, node: str, seconds: float) -> None:
        self._progress.advance(self._run)
        steps = self._steps.pop(node, None)
        if seconds >= SLOW_SECONDS and self._batch is None:
            pace = f"  {seconds / steps:.3f} s a step" if steps else ""
            from rich.text import Text

            self._progress.console.print(Text(f"  {self._names.get(node, node)}  {lasting(seconds)}{pace}", "dim"))

    def _widen(self, count: int) -> None:
        task = next(t for t in self._progress.tasks if t.id == self._run)
        self._progress.update(self._run, total=(task.total or 0) + count)


def _fitted(name: str, width: int = 32) -> str:
    """A name that leaves room for its bar."""
    return name if len(name) <= width else f"{name[: width - 1]}…"
