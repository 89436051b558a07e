"""Readers that wait for content: woken when it is here, when it will not come, or at their deadline.

Used by :class:`imagefs.content.content.Content`, on trio's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import trio

from imagefs.content.failures import again
from imagefs.content.reader import Reader
from imagefs.content.settings import ContentSettings
from imagefs.errors import TransferStalled


@dataclass(eq=False, slots=True)
class Waiter:
    """Waits until the blocks ``[first, end)`` can be delivered and, with ``proof``, the whole content is proved."""

    reader: Reader
    first: int
    end: int
    proof: bool
    since: float
    woken: trio.Event = field(default_factory=trio.Event)
    error: Exception | None = None


def everyone(_: Waiter) -> bool:
    """Concerns every waiter."""
    return True


class Waiters:
    """Those who wait for one content, with a deadline that they share.

    It is counted from the last progress of the content. ``last_error`` is what a passed deadline is blamed on: the
    latest failure since something new arrived.
    """

    def __init__(self, image_id: str, settings: ContentSettings, clock: Callable[[], float]) -> None:
        self.last_error: Exception | None = None
        self._image_id = image_id
        self._settings = settings
        self._clock = clock
        self._waiting: set[Waiter] = set()
        self._progress_at = clock()
        self._timed_out_until = 0.0

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiting)

    async def sleep(self, waiter: Waiter, plan: Callable[[], None], *, needs_service: bool) -> None:
        """Until something happens that concerns *waiter*, after *plan* took it into account.

        Raises, as a reader's error, what *waiter* was given, or that a deadline has passed: its own or, where it
        *needs_service*, another's lately.
        """
        left_s = max(waiter.since, self._progress_at) + self._settings.reader_deadline_s - self._clock()
        if left_s <= 0:
            self._timed_out_until = self._clock() + self._settings.timed_out_for_s
        if left_s <= 0 or (needs_service and self._clock() < self._timed_out_until):
            raise self._timed_out()
        waiter.woken = trio.Event()
        self._waiting.add(waiter)
        try:
            plan()
            with trio.move_on_after(left_s):
                await waiter.woken.wait()
        finally:
            self._waiting.discard(waiter)
        if waiter.error is not None:
            raise again(waiter.error)

    def _timed_out(self) -> Exception:
        if self.last_error is not None:
            return again(self.last_error)
        deadline_s = self._settings.reader_deadline_s
        return TransferStalled(f"Image {self._image_id}: nothing arrived for {deadline_s:.0f} s.")

    def progressed(self) -> None:
        """The content came a step nearer to being here and proved: deadlines count from now."""
        self._progress_at = self._clock()

    def arrived(self) -> None:
        """Something new came from the service: what went wrong before is over."""
        self.last_error = None
        self._timed_out_until = 0.0

    def wake(self, concerned: Callable[[Waiter], bool]) -> None:
        """Wake those that are *concerned* to look again. Unless they wait on, nothing more is fetched for them."""
        for waiter in [waiter for waiter in self._waiting if concerned(waiter)]:
            waiter.woken.set()
            self._waiting.discard(waiter)

    def fail(self, error: Exception, concerned: Callable[[Waiter], bool] = everyone) -> None:
        """Give *error* to those that are *concerned*; nothing more is fetched for them."""
        for waiter in [waiter for waiter in self._waiting if concerned(waiter)]:
            waiter.error = error
            waiter.woken.set()
            self._waiting.discard(waiter)
