"""The nonce of each call: the current second, and where the service takes each only once, a second of its own.

Whether two calls may carry the same nonce is not documented. Used by the client, on any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from imagefs.api.clock import Clock
from imagefs.api.refusals import NonceRefused
from imagefs.errors import Overloaded

ONCE_FOR_S: Final = 60.0
"""How long after a refusal no nonce is used twice. Who shares them again after that finds out by another refusal."""

MOST_AHEAD_S: Final = 120
"""No call waits so long for its second: one that was given out further ahead is of a clock that was set back since."""

T = TypeVar("T")


class Nonces:
    """Gives out nonces."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0
        self._once_until_s: float | None = None

    def next(self, left_s: float) -> int:
        """A nonce to sign with at once; waits for the second that it stands for.

        Raises Overloaded where that takes *left_s* or longer, and has waited for nothing then.
        """
        with self._lock:
            now_s = self._clock.time()
            nonce = int(now_s)
            if self._once_until_s is not None and self._clock.monotonic() < self._once_until_s:
                if nonce <= self._last <= nonce + MOST_AHEAD_S:
                    nonce = self._last + 1
                if nonce - now_s >= left_s:
                    raise Overloaded(
                        "the service takes one call a second, and too many are waiting for theirs"
                    )
            self._last = nonce
        if nonce > now_s:
            self._clock.sleep(nonce - now_s)
        return nonce

    def past_refusal(self, attempt: Callable[[float], T], left_s: float) -> T:
        """What *attempt* returns, which is given the seconds left; made once more if its nonce is refused."""
        ends_s = self._clock.monotonic() + left_s
        try:
            return attempt(left_s)
        except NonceRefused:
            with self._lock:
                self._once_until_s = self._clock.monotonic() + ONCE_FOR_S
        return attempt(ends_s - self._clock.monotonic())
