"""Ctrl-C: the first asks the run to stop at its next step and says so, the second ends the process at once.

The interpreter runs signal handlers between bytecodes, so a long call into native code would delay them. Instead the
byte that a signal leaves in the wake-up socket is read by a thread, which native code does not hold up.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.execute import Cancellation

_STOP = b"\xff"


class Interrupts:
    """While entered, Ctrl-C cancels. Does nothing outside the main thread.

    Args:
        cancellation: What the first Ctrl-C sets.
        before_exit: Puts the terminal in order before the second one ends the process.
    """

    def __init__(self, cancellation: Cancellation, before_exit: Callable[[], None] | None = None) -> None:
        self._cancellation = cancellation
        self._before_exit = before_exit
        self._is_main = threading.current_thread() is threading.main_thread()
        self._old: Any = None
        self._old_fd = -1

    def __enter__(self) -> Self:
        """Take over SIGINT."""
        if not self._is_main:
            return self
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._old_fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._old = signal.signal(signal.SIGINT, lambda *_: None)
        self._thread = threading.Thread(target=self._watch, name="weft-interrupt", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give SIGINT back."""
        if not self._is_main:
            return
        signal.signal(signal.SIGINT, self._old)
        signal.set_wakeup_fd(self._old_fd)
        self._writer.send(_STOP)
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _watch(self) -> None:
        count = 0
        while True:
            for byte in self._reader.recv(64):
                if byte == _STOP[0]:
                    return
                if byte != signal.SIGINT:
                    continue
                count += 1
                if count > 1:
                    if self._before_exit is not None:
                        self._before_exit()
                    os._exit(130)
                print("\nstopping at the next step; Ctrl-C again quits at once", file=sys.stderr)
                self._cancellation.set()
