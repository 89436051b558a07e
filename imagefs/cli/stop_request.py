"""Ctrl-C and its relatives as something to wait for. Used by the demo, on its main thread.

An exception that can come up between any two steps would leave a half-made demo behind; a request that is
looked at between steps cannot.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from functools import partial
from subprocess import Popen
from types import FrameType, TracebackType
from typing import Any, Final, Self

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Notes STOP_SIGNALS for as long as its context lasts, except those that this process was told to ignore."""

    def __init__(self) -> None:
        self._requested = False
        self._reading, self._writing = -1, -1
        self._restore: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._restore.append(partial(signal.set_wakeup_fd, signal.set_wakeup_fd(self._writing)))
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._restore.append(partial(signal.signal, number, signal.signal(number, self._note)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for restore in reversed(self._restore):
            restore()
        os.close(self._reading)
        os.close(self._writing)

    @property
    def requested(self) -> bool:
        """Whether one of the signals came."""
        return self._requested

    def wait_for(self, process: Popen[Any], timeout_s: float | None = None) -> bool:
        """Wait until *process* ends, which is True; False where the request or the timeout came first."""
        if process.poll() is not None:
            return True
        pidfd = os.pidfd_open(process.pid)
        try:
            ready, _, _ = select.select([self._reading, pidfd], [], [], timeout_s)
        finally:
            os.close(pidfd)
        # The status may be there a moment after the descriptor says so.
        return pidfd in ready and process.wait() is not None

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._requested = True
