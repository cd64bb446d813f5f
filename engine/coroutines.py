"""Coroutine nodes: an event loop in a thread of its own, so that waiting overlaps with computing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable


class CoroutineThread:
    """An event loop in a thread of its own; what finishes is put into `inbox`."""

    def __init__(self, inbox: queue.SimpleQueue[Any]) -> None:
        import asyncio  # a run without coroutine nodes does not pay for it

        self._inbox = inbox
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="weft-async", daemon=True)
        self._thread.start()

    def start(self, task: int, function: Callable[..., Any], calls: list[dict[str, Any]]) -> None:
        """Start the calls of a step together; `(task, future of their results)` goes to the inbox when all are done."""
        import asyncio

        async def work() -> list[Any]:
            return list(await asyncio.gather(*(function(**call) for call in calls)))

        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        future.add_done_callback(lambda done: self._inbox.put((task, done)))

    def close(self) -> None:
        """Cancel what still runs and end the thread."""
        import asyncio

        async def cancel_all() -> None:
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel_all(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()
