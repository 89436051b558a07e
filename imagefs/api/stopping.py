"""Ending a call before its answer has begun.

Made by whoever may want to end the call, handed to `ServiceClient.retrieve`, set from any thread.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Protocol

from imagefs.errors import TransferBroken


class Interruptible(Protocol):
    """A connection on which another thread can wake the holder of a lease."""

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
        """End the call where it waits. Any thread, any number of times; no other call is ever hit.

        Only the making of a connection is not cut short; no request is then sent over it.
        """
        self._event.set()  # first: a call that is about to wait says on what, and then looks at this
        if self._awaited is not None:
            connection, lease = self._awaited
            connection.interrupt(lease)

    def awaits(self, connection: Interruptible) -> None:
        """The call waits on *connection* from now on, in its current lease. On the calling thread."""
        self._awaited = (connection, connection.lease)

    def sleep(self, seconds: float) -> None:
        """Block the calling thread, or until the call should end."""
        self._event.wait(seconds)

    def raise_if_set(self, subject: str) -> None:
        """Raise `TransferBroken` where the call should end."""
        if self.is_set():
            raise TransferBroken(f"{subject}: the transfer was stopped")


current_stop: ContextVar[Stop | None] = ContextVar("current_stop", default=None)
"""What may end the call that this thread is making; a context variable, as requests passes nothing to connections."""
