"""Coroutine nodes: an event loop in a thread of its own, so that waiting overlaps with computing."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable

_log = logging.getLogger(__name__)

PATIENCE_S = 5.0
"""How long closing waits for coroutines that do not let themselves be cancelled."""


class Returned(NamedTuple):
    """What became of the calls of a task: their results, or what the first to fail raised."""

    task: int
    results: list[Any]
    error: BaseException | None


class CoroutineThread:
    """Runs coroutines; what they return is put into `inbox` as `Returned`."""

    def __init__(self, inbox: queue.SimpleQueue[Any]) -> None:
        import asyncio  # a run without coroutine nodes does not pay for it

        self._inbox = inbox
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="weft-async", daemon=True)
        self._thread.start()

    def start(self, task: int, function: Callable[..., Any], calls: list[dict[str, Any]]) -> None:
        """Start the calls of a task together. If one fails, the others are cancelled before it is reported."""
        import asyncio

        async def work() -> None:
            running = [asyncio.ensure_future(_shielded(function, call)) for call in calls]
            error: BaseException | None = None
            for done in asyncio.as_completed(running):
                _, error = await done
                if error is not None:
                    break
            for call in running:
                call.cancel()
            ended = await asyncio.gather(*running, return_exceptions=True)
            results = [] if error is not None else [item[0] for item in ended if not isinstance(item, BaseException)]
            self._inbox.put(Returned(task, results, error))

        asyncio.run_coroutine_threadsafe(work(), self._loop)

    def close(self) -> None:
        """Cancel what still runs and end the thread. A coroutine that resists is left behind, and logged."""
        import asyncio

        async def cancel_all() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        try:
            asyncio.run_coroutine_threadsafe(cancel_all(), self._loop).result(timeout=PATIENCE_S)
        except TimeoutError:
            _log.warning("a coroutine node does not let itself be cancelled; its thread is left behind")
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=PATIENCE_S)
        if not self._thread.is_alive():
            self._loop.close()


async def _shielded(function: Callable[..., Any], call: dict[str, Any]) -> tuple[Any, BaseException | None]:
    """(result, error) of a call: no exception, not even SystemExit, may end the event loop."""
    import asyncio

    try:
        return await function(**call), None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - reported by the run, which raises it where it belongs
        return None, error
