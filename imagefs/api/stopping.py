"""Ending a call before its answer has begun.

Made by whoever may want the end, handed to `ServiceClient.retrieve`, set from any thread.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Protocol

from imagefs.errors import TransferBroken


class Interruptible(Protocol):
    """A connection, which another thread can wake the holder of a lease of."""

    @property
    def lease(self) -> int:
        """The current lease."""

    def interrupt(self, lease: int) -> None:
        """Wake the holder of *lease*; any thread."""


class Stop:
    """Whether a call should end, and the connection that it waits on."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._awaited: tuple[Interruptible, int] | None = None

    def is_set(self) -> bool:
        """Whether the call should end."""
        return self._event.is_set()

    def set(self) -> None:
        """End the call where it waits. Any thread, any number of times; nobody else's call is ever hit.

        Only a connection that is just being made is not cut short: no request goes over it.
        """
        self._event.set()  # first: who starts to wait looks at it after it has said on what
        if self._awaited is not None:
            connection, lease = self._awaited
            connection.interrupt(lease)

    def awaits(self, connection: Interruptible) -> None:
        """From now on the call waits on *connection*, in its present lease. The calling thread."""
        self._awaited = (connection, connection.lease)

    def sleep(self, seconds: float) -> None:
        """Block the calling thread, until the call should end at most."""
        self._event.wait(seconds)

    def raise_if_set(self, subject: str) -> None:
        """Raise `TransferBroken` where the call should end."""
        if self.is_set():
            raise TransferBroken(f"{subject}: the transfer was stopped")


current_stop: ContextVar[Stop | None] = ContextVar("current_stop", default=None)
"""What may end the call that this thread is making: requests hands nothing through to its connections."""
