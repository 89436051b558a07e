"""The details of images: those of active images for good, all others for a moment.

Used by :class:`imagefs.account.Account` and the prefetch on trio's thread; calls run in worker threads, a
limited number at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from functools import partial

import trio
from cachetools import LRUCache, TLRUCache, TTLCache

from imagefs.account.flights import SingleFlight
from imagefs.account.outage import Outage
from imagefs.account.protocols import ListingClient
from imagefs.account.snapshot import Snapshot
from imagefs.account.surroundings import Surroundings
from imagefs.account.writeback import IndexWriter
from imagefs.core.models import ImageDetails, ListedImage, Phase
from imagefs.errors import OutOfResources, RefusedUnknownImage, ServiceError, Unreachable

log = logging.getLogger(__name__)


class DetailsCache:
    """What is known of each image beyond its row in the listing.

    An active image doesn't change, so its details are kept until the listing shows another status or no such image, or
    its content turns out not to be what they say, and over remounts in the index. Name, region and status are always
    those of the listing.
    """

    def __init__(
        self,
        client: ListingClient,
        outage: Outage,
        writer: IndexWriter,
        around: Surroundings,
        listed: Callable[[str], ListedImage | None],
        changed: Callable[[ImageDetails, ImageDetails], None],
    ) -> None:
        """*listed* gives an image's current row; *changed* is called with (old, new) details of other content."""
        settings = around.settings
        self._client = client
        self._outage = outage
        self._writer = writer
        self._around = around
        self._listed = listed
        self._changed = changed
        self._lasting: dict[str, ImageDetails] = {}
        self._former: dict[str, ImageDetails] = {}
        self._brief: TLRUCache[str, ImageDetails] = TLRUCache(
            settings.max_brief_entries, self._brief_until, timer=around.clock
        )
        self._failures: TTLCache[str, ServiceError] = TTLCache(
            settings.max_brief_entries, settings.failure_ttl_s, timer=around.clock
        )
        self._error_texts: LRUCache[str, str] = LRUCache(settings.max_brief_entries)
        self._flights: SingleFlight[ImageDetails] = SingleFlight(around.start)
        self._looked_up: dict[str, trio.Event] = {}
        self._turns = trio.Semaphore(settings.details_parallel)
        self._threads = trio.CapacityLimiter(settings.details_parallel)

    def restore(self, details: Mapping[str, ImageDetails]) -> None:
        """Start from the details of an earlier run."""
        self._lasting = {image_id: one for image_id, one in details.items() if _is_lasting(one)}

    def known(self, image_id: str) -> ImageDetails | None:
        """What needs no call, or None."""
        return self._lasting.get(image_id) or self._brief.get(image_id)

    def error_of(self, image_id: str) -> str | None:
        """The last failure that was noted, or else what makes no sense in the details."""
        text = self._error_texts.get(image_id)
        if text is None and (known := self.known(image_id)) is not None:
            text = known.problem
        return text

    def note_error(self, image_id: str, text: str | None) -> None:
        """Keep the last failure of an image that is there, of its details or its content; None clears it."""
        if text is None:
            self._error_texts.pop(image_id, None)
        elif self._listed(image_id) is not None:
            self._error_texts[image_id] = text

    def check_failures(self, image_id: str) -> None:
        """Raise the ServiceError of a recent call, if there was one: another would most likely end the same way."""
        failure = self._failures.get(image_id)
        if failure is not None:
            raise copy(failure)
        self._outage.check()

    def needs_call(self, image_id: str) -> bool:
        """Whether details are missing and no call for them has failed lately."""
        return self.known(image_id) is None and image_id not in self._failures

    async def fetch(self, image_id: str) -> ImageDetails:
        """The details from the service, by one call for all who ask; raises ServiceError."""
        return await self._flights.join(image_id, lambda: self._fetch(image_id))

    def doubt(self, image_id: str) -> trio.Event:
        """Look lasting details up again: the image may be another by now, or a wrong answer was kept.

        The event tells that this has come to an end, in whatever way.
        """
        looked_up = self._looked_up.get(image_id)
        if looked_up is None:
            looked_up = trio.Event()
            if image_id in self._lasting:
                self._around.start(partial(self._look_up_again, image_id, looked_up))
                self._looked_up[image_id] = looked_up
            else:
                looked_up.set()
        return looked_up

    def reconcile(self, old: Snapshot, new: Snapshot) -> None:
        """Take over what a newer listing says of images whose details are known."""
        for image in new.images:
            before = old.by_id.get(image.image_id)
            if before is image or before == image:
                continue
            known = self.known(image.image_id)
            if known is None:
                continue
            if known.phase is image.phase:
                self._store(_as_listed(known, image))
            else:
                self._drop(image.image_id)
        self._forget_vanished(new)
        for image_id in old.by_id.keys() - new.by_id.keys():
            self._error_texts.pop(image_id, None)

    async def _fetch(self, image_id: str) -> ImageDetails:
        ends_at = self._around.clock() + self._around.settings.call_deadline_s
        await self._await_turn(image_id)
        try:
            self._outage.check()
            answer = await self._ask(image_id, ends_at)
        finally:
            self._turns.release()
        self._outage.note_answer()
        self._failures.pop(image_id, None)
        self.note_error(image_id, None)
        return self._received(replace(answer, image_id=image_id))

    async def _look_up_again(self, image_id: str, looked_up: trio.Event) -> None:
        """Only other lasting details replace the known ones; failures that were noted of the image stay."""
        call = partial(self._client.image_details, image_id, deadline_s=self._outage.deadline_s)
        try:
            answer = replace(await self._around.threads.ask(call, self._threads), image_id=image_id)
            if image_id in self._lasting and _is_lasting(answer):
                self._received(answer)
        except ServiceError as error:
            log.info("The details of image %s cannot be looked up again: %s", image_id, error)
        finally:
            del self._looked_up[image_id]
            looked_up.set()

    async def _await_turn(self, image_id: str) -> None:
        """Wait until few enough others are asked for. Raises Unreachable when too little time is left for the call."""
        settings = self._around.settings
        with trio.move_on_after(settings.call_deadline_s - settings.suspect_deadline_s) as waiting:
            await self._turns.acquire()
        if waiting.cancelled_caught:
            raise Unreachable(
                f"The details of image {image_id} cannot be asked for: too many wait for others."
            )

    async def _ask(self, image_id: str, ends_at: float) -> ImageDetails:
        deadline_s = min(self._outage.deadline_s, ends_at - self._around.clock())
        call = partial(self._client.image_details, image_id, deadline_s=deadline_s)
        try:
            return await self._around.threads.ask(call, self._threads)
        except ServiceError as error:
            self._note_failure(image_id, error)
            raise

    def _note_failure(self, image_id: str, error: ServiceError) -> None:
        # That an image goes while somebody looks at it is nothing to warn of.
        level = logging.INFO if isinstance(error, RefusedUnknownImage) else logging.WARNING
        log.log(level, "The details of image %s cannot be had: %s", image_id, error)
        self._outage.note_failure(image_id, error)
        if not isinstance(error, OutOfResources):  # which says nothing of the image
            self._failures[image_id] = copy(error)  # without the traceback, whose frames hold answers
        self.note_error(image_id, str(error))

    def _received(self, answer: ImageDetails) -> ImageDetails:
        listed = self._listed(answer.image_id)
        details = answer if listed is None else _as_listed(answer, listed)
        former = self._lasting.get(details.image_id) or self._former.get(details.image_id)
        self._store(details)
        if former is not None and _is_lasting(details):
            self._former.pop(details.image_id, None)
            if former.content_key != details.content_key:
                log.warning("The content of image %s is not what it was.", details.image_id)
                self._changed(former, details)
        return details

    def _store(self, details: ImageDetails) -> None:
        image_id = details.image_id
        if not _is_lasting(details):
            self._retire(image_id)
            self._brief[image_id] = details
        elif self._lasting.get(image_id) != details:
            self._brief.pop(image_id, None)
            self._lasting[image_id] = details
            self._writer.keep_details(details)

    def _drop(self, image_id: str) -> None:
        self._retire(image_id)
        self._brief.pop(image_id, None)

    def _retire(self, image_id: str) -> None:
        """No longer serve lasting details, but remember them, to see whether the next ones are of other content."""
        former = self._lasting.pop(image_id, None)
        if former is not None:
            self._former[image_id] = former
            self._writer.forget_details([image_id])

    def _forget_vanished(self, listing: Snapshot) -> None:
        """Keep nothing of images that are gone, unless all of them may be what the listing says so badly."""
        vanished = (self._former.keys() | self._lasting.keys()) - listing.by_id.keys()
        if len(vanished) <= len(listing.problems):
            return
        for image_id in vanished:
            self._former.pop(image_id, None)
            if self._lasting.pop(image_id, None) is not None:
                self._writer.forget_details([image_id])

    def _brief_until(self, _image_id: str, details: ImageDetails, now: float) -> float:
        settings = self._around.settings
        return now + (settings.pending_ttl_s if details.phase is Phase.PENDING else settings.listing_ttl_s)


def _is_lasting(details: ImageDetails) -> bool:
    """Whether details stay true: those of an active image, unless they made no sense."""
    return details.phase is Phase.ACTIVE and details.problem is None


def _as_listed(details: ImageDetails, listed: ListedImage) -> ImageDetails:
    """*details* with the name, region and status of the listing.

    The one exception: details that were read before the image turned active are not complete, so they are
    never made to look active.
    """
    incomplete = listed.phase is Phase.ACTIVE and details.phase is not Phase.ACTIVE
    status = details.status if incomplete else listed.status
    if (details.name, details.region, details.status) == (listed.name, listed.region, status):
        return details
    newer = {"name": listed.name, "region": listed.region, "status": status}
    fields = tuple((key, newer.get(key, text)) for key, text in details.fields)
    return replace(details, name=listed.name, region=listed.region, status=status, fields=fields)
