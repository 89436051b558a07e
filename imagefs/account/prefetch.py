"""Details ahead of need, so that ``ls -l`` of a large region doesn't wait for one call after another.

Used by :class:`imagefs.account.Account` on trio's thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import trio

from imagefs.account.details import DetailsCache
from imagefs.account.errands import Errands
from imagefs.account.outage import Outage
from imagefs.account.snapshot import Snapshot
from imagefs.account.surroundings import Surroundings
from imagefs.errors import ServiceError

CALL_COST_S: Final = 0.003
"""CPU time that a call costs. Where calls take no longer than a few of these, more of them at once gain nothing, and
keep others from the processor."""

FEWEST_AT_ONCE: Final = 2


@dataclass(eq=False, slots=True)
class _Crew:
    """Those who fetch the details of one region: ``size`` workers that share ``image_ids``.

    ``shortest_s`` is how long the shortest call took: about one round trip to the service.
    """

    region: str
    image_ids: Iterator[str]
    nursery: trio.Nursery
    size: int = 0
    shortest_s: float = math.inf


class Prefetch:
    """Fetches all missing details of a region, in listing order, as many at once as the round trip calls for.

    It starts when it is asked to, or when the details of two images of one region are missing within a moment: so a
    single stat costs a single call, and a program that walks the region finds the answers there. Started by misses, it
    goes on only while somebody keeps asking. It gives way to callers who wait for a change.
    """

    def __init__(
        self,
        details: DetailsCache,
        outage: Outage,
        errands: Errands,
        around: Surroundings,
        listing: Callable[[], Snapshot],
    ) -> None:
        self._details = details
        self._outage = outage
        self._errands = errands
        self._around = around
        self._listing = listing
        self._to_the_end: dict[str, bool] = {}
        self._asked_at: dict[str, float] = {}
        self._missed_at: dict[str, float] = {}

    def start(self, region: str, *, to_the_end: bool = True) -> None:
        """Begin with a region, or go on with it to the end where it is under way."""
        if region in self._to_the_end:
            self._to_the_end[region] |= to_the_end
            return
        self._around.start(lambda: self._run(region))
        self._to_the_end[region] = to_the_end

    def note_asked(self, region: str) -> None:
        """Somebody asked for details of an image of *region*."""
        self._asked_at[region] = self._around.clock()

    def note_miss(self, region: str) -> None:
        """They were missing, and a call for them begins."""
        now = self._around.clock()
        missed_at = self._missed_at.get(region)
        self._missed_at[region] = now
        recent = missed_at is not None and now - missed_at <= self._around.settings.prefetch_trigger_s
        if recent and not self._outage.suspected:
            self.start(region, to_the_end=False)

    def note_miss_over(self, region: str) -> None:
        """That call has ended: the time to the next miss counts from here, however slow the service is."""
        self._missed_at[region] = self._around.clock()

    async def _run(self, region: str) -> None:
        try:
            images = self._listing().in_region(region)
            image_ids = iter([image.image_id for image in images])
            async with trio.open_nursery() as nursery:
                self._enlarge(_Crew(region, image_ids, nursery), FEWEST_AT_ONCE)
        finally:
            del self._to_the_end[region]

    def _enlarge(self, crew: _Crew, wanted: float) -> None:
        while crew.size < min(wanted, self._around.settings.details_parallel):
            crew.size += 1
            crew.nursery.start_soon(self._work, crew)

    async def _work(self, crew: _Crew) -> None:
        for image_id in crew.image_ids:
            if not self._is_wanted(crew.region):
                return
            if not self._details.needs_call(image_id):
                continue
            with trio.move_on_after(self._around.settings.prefetch_yield_s):
                await self._errands.idle()
            began_at = self._around.clock()
            try:
                await self._details.fetch(image_id)
            except ServiceError:
                if self._outage.suspected:
                    crew.nursery.cancel_scope.cancel()
            crew.shortest_s = min(crew.shortest_s, self._around.clock() - began_at)
            self._enlarge(crew, crew.shortest_s / CALL_COST_S)

    def _is_wanted(self, region: str) -> bool:
        idle_s = self._around.clock() - self._asked_at.get(region, float("-inf"))
        return self._to_the_end[region] or idle_s <= self._around.settings.prefetch_idle_s
