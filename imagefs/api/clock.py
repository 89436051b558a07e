"""The time as the client sees it, passed in so that tests need not wait.

Used by the client, its retry policy and content bodies, on the calling thread.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the client gets the time from, and how it waits."""

    def time(self) -> float:
        """Seconds since the epoch, UTC: what nonces are made of."""

    def monotonic(self) -> float:
        """Seconds since some moment, never set back: what deadlines are measured with."""

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""


class SystemClock:
    """This machine's clock."""

    def time(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some moment, never set back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread."""
        time.sleep(seconds)
