"""One call for all who ask the same at the same time.

Used on trio's thread by the listing and the details. The call runs in a task of its own, so that a caller who is
cancelled does not take the answer from the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

import trio

from imagefs.account.protocols import StartTask
from imagefs.errors import Unreachable

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Calls under way, by key; at most one for each key."""

    def __init__(self, start: StartTask) -> None:
        self._start = start
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def join(self, key: Hashable, call: Callable[[], Awaitable[T]]) -> T:
        """The answer of the call under way for *key*, or of *call*, which is then started.

        Raises what the call raised, in each caller that waits.
        """
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight()
            self._start(partial(self._run, key, flight, call))
            self._flights[key] = flight
        await flight.done.wait()
        if flight.error is None:
            return flight.answer
        try:
            raise flight.error.with_traceback(flight.traceback)
        finally:
            del flight  # which leads back to the error

    async def landed(self, key: Hashable) -> None:
        """Wait until the call that is under way for *key* now, if there is one, has ended in whatever way."""
        flight = self._flights.get(key)
        if flight is not None:
            await flight.done.wait()

    async def _run(self, key: Hashable, flight: _Flight[T], call: Callable[[], Awaitable[T]]) -> None:
        try:
            flight.answer = await call()
            flight.error = None
        except Exception as error:  # raised in everyone who waits
            flight.error = error
            flight.traceback = error.__traceback__
        finally:
            del self._flights[key]
            flight.done.set()


class _Flight(Generic[T]):
    """One call under way; ``answer`` is set where ``error`` is None."""

    answer: T

    def __init__(self) -> None:
        self.done = trio.Event()
        self.traceback: TracebackType | None = None
        self.error: Exception | None = Unreachable("The call was given up before its answer came.")
