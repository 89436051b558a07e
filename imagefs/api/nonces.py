"""The nonce of each call: the current second or, where the service accepts each only once, a second of its own.

Whether two calls may carry the same nonce is not documented. Used by the client, on any thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from imagefs.api.clock import Clock
from imagefs.api.refusals import NonceRefused
from imagefs.api.stopping import Stop
from imagefs.errors import CredentialsRefused, Overloaded

FIRST_ONCE_S: Final = 4.0
MOST_ONCE_S: Final = 256.0
"""How long after a refusal no nonce is used twice, at first and at most. After that calls share nonces again, and
another refusal soon after doubles the time. So a service that refuses by mistake slows nobody down for long, and one
that accepts each nonce only once rarely refuses."""

MOST_AHEAD_S: Final = 120
"""No call waits that long for its second: if nonces were given out further ahead, the clock has been set back since."""

T = TypeVar("T")


class Nonces:
    """Gives out nonces."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = 0
        self._shared_at_s = -math.inf
        self._once_for_s = FIRST_ONCE_S
        self._once_until_s = -math.inf

    def next(self, left_s: float, stop: Stop | None = None) -> int:
        """A nonce to sign with at once; waits for the second that it stands for, unless *stop* ends the wait.

        Raises Overloaded, without waiting, where that would take *left_s* or longer.
        """
        with self._lock:
            now_s = self._clock.time()
            nonce = int(now_s)
            if self._clock.monotonic() < self._once_until_s:
                if nonce <= self._last <= nonce + MOST_AHEAD_S:
                    nonce = self._last + 1
                if nonce - now_s >= left_s:
                    raise Overloaded(
                        "the service takes one call a second, and too many are waiting for theirs"
                    )
            if nonce == self._last:
                self._shared_at_s = self._clock.monotonic()
            self._last = nonce
        if nonce > now_s:
            (self._clock if stop is None else stop).sleep(nonce - now_s)
        return nonce

    def past_refusal(self, attempt: Callable[[float], T], left_s: float) -> T:
        """What *attempt* returns, called with the seconds left; called once more if its nonce is refused.

        The service need not say that it is the nonce. Refused credentials are taken for that if another call had the
        same nonce meanwhile, unless they are also refused with a nonce of their own.
        """
        begun_s = self._clock.monotonic()
        ends_s = begun_s + left_s
        try:
            return attempt(left_s)
        except CredentialsRefused as refusal:
            is_named = isinstance(refusal, NonceRefused)
            if not is_named and self._shared_at_s < begun_s:
                raise
            once_until_s = self._note_refusal()
        try:
            return attempt(ends_s - self._clock.monotonic())
        except CredentialsRefused as refusal:
            if not is_named and not isinstance(refusal, NonceRefused):
                self._take_back(once_until_s)
            raise

    def _note_refusal(self) -> float | None:
        """Use no nonce twice for a while: until when, or None where that was known before."""
        with self._lock:
            now_s = self._clock.monotonic()
            if now_s < self._once_until_s:
                return None  # the call was made before that was known
            follows_soon = now_s < self._once_until_s + MOST_ONCE_S
            self._once_for_s = min(2 * self._once_for_s, MOST_ONCE_S) if follows_soon else FIRST_ONCE_S
            self._once_until_s = now_s + self._once_for_s
            return self._once_until_s

    def _take_back(self, once_until_s: float | None) -> None:
        """The nonce was not the reason: share nonces again, unless there was another refusal since."""
        with self._lock:
            if once_until_s == self._once_until_s:
                self._once_until_s = -math.inf
