"""Readers that wait for content: woken when it is here, when it will not come, or at their deadline.

Used by :class:`imagefs.content.content.Content`, on trio's thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import trio

from imagefs.content.failures import again
from imagefs.content.reader import Reader
from imagefs.content.settings import ContentSettings
from imagefs.errors import ContentWrong, TransferStalled


@dataclass(eq=False, slots=True)
class Waiter:
    """Waits until the blocks ``[first, end)`` can be delivered and, with ``proof``, the whole content is proved.

    ``nearer_at`` is when it began to wait, or what it waits for last came nearer. ``setback`` is what a transfer of its
    blocks failed with last: from then on it is no progress for it that others get theirs. ``came_wrong`` tells that one
    of those failed as bytes of proved content were wrong.
    """

    reader: Reader
    first: int
    end: int
    proof: bool
    nearer_at: float
    setback: Exception | None = None
    came_wrong: bool = False
    woken: trio.Event = field(default_factory=trio.Event)
    error: Exception | None = None

    def needs_any(self, first: int, end: int) -> bool:
        """Whether it waits for any of the blocks ``[first, end)`` themselves."""
        return first < self.end and self.first < end


def everyone(_: Waiter) -> bool:
    """Concerns every waiter."""
    return True


class Waiters:
    """Those who wait for one content, with a deadline that they share.

    It is counted from the last progress of the content, but not for who waits for a part of it that fails while others
    go on. ``last_error`` is what a passed deadline is blamed on: the latest failure since something new arrived.
    """

    def __init__(self, image_id: str, settings: ContentSettings, clock: Callable[[], float]) -> None:
        self.last_error: Exception | None = None
        self._image_id = image_id
        self._settings = settings
        self._clock = clock
        self._waiting: set[Waiter] = set()
        self._progress_at = clock()
        self._timed_out = (0, 0)
        self._timed_out_until = 0.0
        self._timed_out_error: Exception = TransferStalled("")

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiting)

    async def sleep(self, waiter: Waiter, plan: Callable[[], None], *, needs_service: bool) -> None:
        """Until something happens that concerns *waiter*, after *plan* took it into account.

        Raises, as a reader's error, what *waiter* was given, or that a deadline has passed: its own or, where it
        *needs_service*, another's lately.
        """
        counted_from = waiter.nearer_at if waiter.setback else max(waiter.nearer_at, self._progress_at)
        left_s = counted_from + self._settings.reader_deadline_s - self._clock()
        if left_s <= 0:
            self._timed_out = (waiter.first, waiter.end) if waiter.setback else (0, sys.maxsize)
            self._timed_out_until = self._clock() + self._settings.timed_out_for_s
            self._timed_out_error = self._deadline_error(waiter)
        if left_s <= 0 or (needs_service and self._has_timed_out(waiter)):
            raise again(self._timed_out_error)
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

    def _has_timed_out(self, waiter: Waiter) -> bool:
        """Whether another's deadline has passed lately over the same blocks, or over the content as a whole."""
        return waiter.needs_any(*self._timed_out) and self._clock() < self._timed_out_until

    def _deadline_error(self, waiter: Waiter) -> Exception:
        deadline_s = self._settings.reader_deadline_s
        silence = TransferStalled(f"Image {self._image_id}: nothing arrived for {deadline_s:.0f} s.")
        return waiter.setback or self.last_error or silence

    def progressed(self, first: int = 0, end: int = 0) -> None:
        """The content came a step nearer to being here and proved: deadlines count from now.

        Those of waiters that were set back only where the blocks ``[first, end)``, which are coming, are theirs.
        """
        self._progress_at = self._clock()
        for waiter in self._waiting:
            if waiter.proof or waiter.needs_any(first, end):
                waiter.nearer_at = self._progress_at

    def arrived(self, first: int, end: int) -> None:
        """Of the blocks ``[first, end)`` something new came from the service: what went wrong before is over."""
        self.last_error = None
        if first < self._timed_out[1] and self._timed_out[0] < end:
            self._timed_out_until = 0.0

    def set_back(self, error: Exception, first: int, end: int) -> None:
        """A transfer of the blocks ``[first, end)`` failed: have those that wait for them look at their deadlines."""
        for waiter in self._waiting:
            if waiter.needs_any(first, end):
                waiter.setback = error
                waiter.came_wrong |= isinstance(error, ContentWrong)
        self.wake(lambda waiter: waiter.setback is error)

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
