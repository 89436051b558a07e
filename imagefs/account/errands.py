"""Changes that go on when whoever asked for them leaves.

Used by :class:`imagefs.account.changes.Changes` on trio's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import trio

from imagefs.account.backoff import growing_pauses
from imagefs.account.flights import SingleFlight
from imagefs.account.surroundings import Surroundings
from imagefs.errors import AnswerLost, Busy, ImagefsError, PutOff, Unreachable

log = logging.getLogger(__name__)

T = TypeVar("T")

_ANSWER_S: Final = 2.0
"""How long before the waiting caller's deadline the last call for an errand has to be over."""


class Errand:
    """One change under way in a task of its own, as that task and the caller who waits for it see it.

    ``attended``: the caller still waits. ``doubt`` is why it is not known whether the service has carried it out;
    ``late``: the caller was told so when its deadline passed.
    """

    def __init__(self, around: Surroundings) -> None:
        self.scope = trio.CancelScope()
        self.attended = True
        self.doubt: AnswerLost | None = None
        self.late = False
        self._clock = around.clock
        self._ends_at = around.clock() + around.settings.change_deadline_s
        settings = around.settings
        self._pauses = growing_pauses(settings.put_off_first_s, settings.put_off_max_s, around.random)
        self._begun = False
        self._committed = False

    def begin(self) -> None:
        """It is this errand's turn: no other change of the image is under way any more."""
        self._begun = True

    def commit(self) -> None:
        """From here on the service may be asked, so the errand is seen to its end, whoever leaves."""
        self._committed = True

    def leave(self) -> None:
        """Nobody waits any more: what was not committed is dropped."""
        self.attended = False
        if not self._committed:
            self.scope.cancel()

    @property
    def left_s(self) -> float:
        """How long the service may still take for its answer to reach the caller in time."""
        return max(self._ends_at - self._clock() - _ANSWER_S, 0.0)

    async def sit_out(self, error: PutOff) -> bool:
        """Wait for as long as the service asks, and a random time more; False at once where nobody waits for that long.

        The caller may leave meanwhile, so look at ``attended`` before you ask again.
        """
        pause_s = next(self._pauses) + (error.retry_after_s or 0.0)
        if not self.attended or pause_s >= self.left_s:
            return False
        await trio.sleep(pause_s)
        return True

    def overdue(self, subject: str, deadline_s: float) -> ImagefsError:
        """The error for a caller whose deadline has passed."""
        if self._committed:
            doubt = self.doubt or AnswerLost(f"{subject}: not settled within {deadline_s:g} s")
            return type(doubt)(f"{doubt}; what became of it is found out in the background")
        if self._begun:
            return Unreachable(f"{subject}: nothing was done, as the service took more than {deadline_s:g} s")
        return Busy(f"{subject}: nothing was done, as another change of the image has not ended yet")


class Errands:
    """Runs errands; each caller waits for its own, until the deadline for changes."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._deadline_s = around.settings.change_deadline_s
        self._flights: SingleFlight[Any] = SingleFlight(around.start)
        self._under_way = 0
        self._idle = trio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Wait until nobody waits for a change."""
        await self._idle.wait()

    async def run(
        self,
        subject: str,
        work: Callable[[Errand], Awaitable[T]],
        failed: Callable[[ImagefsError | None], None] = lambda _: None,
    ) -> T:
        """What *work* returns. Where the caller is cancelled or its deadline passes, it goes on if it was committed.

        Raises what *work* raises, and AnswerLost, Unreachable or Busy past the deadline. *failed* is called with each
        of these, also when nobody waits any more, and with None where *work* succeeds past the deadline.
        """
        errand = Errand(self._around)

        async def go() -> T:
            with errand.scope:
                try:
                    answer = await work(errand)
                except ImagefsError as error:
                    failed(error)
                    if not errand.attended:
                        log.warning("A change that nobody waits for any more has failed: %s", error)
                    raise
                except Exception:
                    if not errand.attended:
                        log.exception("%s: failed by a bug.", subject)
                    raise
                if errand.late:
                    failed(None)
                return answer
            raise Unreachable(f"{subject}: given up before the service was asked")

        if not self._under_way:
            self._idle = trio.Event()
        self._under_way += 1
        try:
            with trio.move_on_after(self._deadline_s):
                done: T = await self._flights.join(errand, go)
                return done
        finally:
            errand.leave()
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        overdue = errand.overdue(subject, self._deadline_s)
        errand.late = True
        failed(overdue)
        raise overdue
