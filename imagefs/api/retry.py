"""When a call is tried again: jittered, growing waits within the call's deadline.

Used by the client, on the calling thread, which sleeps between attempts.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

import tenacity

from imagefs.api.clock import Clock
from imagefs.api.limits import Limits
from imagefs.api.stopping import Stop
from imagefs.errors import NoConnection, OutOfResources, Overloaded, ServiceError, TlsFailure, Unreachable

T = TypeVar("T")


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help and cannot do harm: never where a change may have been carried out."""
    if isinstance(error, TlsFailure) or (isinstance(error, ServiceError) and error.maybe_done):
        return False
    return isinstance(error, Unreachable | OutOfResources | Overloaded)


class RetryPolicy:
    """Tries again after a transient error, for as long as the deadline leaves room for the wait."""

    def __init__(self, limits: Limits, clock: Clock, rng: random.Random) -> None:
        self._limits = limits
        self._clock = clock
        self._rng = rng

    def run(
        self,
        attempt: Callable[[float], T],
        deadline_s: float,
        no_connection_s: float | None = None,
        stop: Stop | None = None,
    ) -> T:
        """What *attempt* returns; it is called with the seconds that are left. Raises its last error.

        Without any connection, it is given up after *no_connection_s*. *stop* ends a wait; *attempt*, called once more,
        has to notice it.
        """
        began_s = self._clock.monotonic()
        ends_s = began_s + deadline_s

        def is_over(state: tenacity.RetryCallState) -> bool:
            resumes_s = self._clock.monotonic() + state.upcoming_sleep
            error = state.outcome.exception() if state.outcome else None
            if no_connection_s is not None and isinstance(error, NoConnection):
                return resumes_s >= began_s + no_connection_s
            return resumes_s >= ends_s

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            wait=self._wait_s,
            stop=is_over,
            sleep=self._clock.sleep if stop is None else stop.sleep,
            reraise=True,
        )
        return retrying(lambda: attempt(ends_s - self._clock.monotonic()))

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        """The wait before the next attempt: half of it random, and added to what the service asked for.

        So calls that a busy service refuses at the same time are not repeated at the same time.
        """
        limits = self._limits
        grown_s = limits.backoff_first_s * 2.0 ** min(state.attempt_number - 1, 32)
        wait_s = min(grown_s, limits.backoff_most_s) * self._rng.uniform(0.5, 1.0)
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Overloaded) and error.retry_after_s is not None:
            wait_s = min(error.retry_after_s + wait_s, limits.retry_after_most_s)
        return wait_s
