"""`comfy_api.v0_0_2`: progress of the node that runs."""

from __future__ import annotations

from typing import Any

from engine.packs.scene import scene


class _SyncExecution:
    """Reports progress."""

    def set_progress(self, value: float, max_value: float, *_: Any, **__: Any) -> None:
        """Report that the node that runs is at `value` of `max_value`."""
        run = scene().run
        if run is not None:
            run.progress(value, max_value)


class _Execution:
    """Reports progress, for coroutines."""

    async def set_progress(self, value: float, max_value: float, *more: Any, **named: Any) -> None:
        """Report that the node that runs is at `value` of `max_value`."""
        _SyncExecution().set_progress(value, max_value, *more, **named)


class ComfyAPI:
    """What coroutine nodes may ask for."""

    def __init__(self) -> None:
        self.execution = _Execution()


class ComfyAPISync:
    """What other nodes may ask for."""

    def __init__(self) -> None:
        self.execution = _SyncExecution()
