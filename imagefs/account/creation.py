"""New images: asked for once, and found again where the answer was lost.

Used by :class:`imagefs.account.changes.Changes` on trio's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace

import trio

from imagefs.account.errands import Errand
from imagefs.account.journal import Entry, Journal
from imagefs.account.locks import KeyedLocks
from imagefs.account.service import Service
from imagefs.account.snapshot import Snapshot
from imagefs.account.surroundings import Surroundings
from imagefs.core.intents import Creation, Remark
from imagefs.errors import AnswerLost, ServiceError

log = logging.getLogger(__name__)


class Creator:
    """Has the service begin new images, never one more than was asked for.

    One region is asked for one image at a time, until it is known what became of the request: so whatever
    else is new there meanwhile is not this mount's.
    """

    def __init__(self, service: Service, journal: Journal, images: KeyedLocks, around: Surroundings) -> None:
        """*images* are the locks by image id; callers hold the source's."""
        self._service = service
        self._journal = journal
        self._images = images
        self._around = around
        self._regions = KeyedLocks()

    async def create(self, errand: Errand, wanted: Creation, request: Callable[..., str]) -> str:
        """Send *request*, a method of the client with its arguments, for the image *wanted*; the new id.

        Raises ServiceError, and AnswerLost where it cannot be told which image is the new one; StoreError
        before anything was sent.
        """
        async with self._regions[wanted.region]:
            listing = await self._service.listing()
            known_ids = frozenset(image.image_id for image in listing.in_region(wanted.region))
            errand.commit()
            entry = await self._journal.add(replace(wanted, known_ids=known_ids))
            return await self._request(errand, entry, request)

    async def resume(self, entry: Entry[Creation]) -> None:
        """Find out what became of a request of an earlier mount, which is never sent again."""
        wanted = entry.intent
        async with AsyncExitStack() as held:
            if wanted.source_id is not None:
                await held.enter_async_context(self._images[wanted.source_id])
            await held.enter_async_context(self._regions[wanted.region])
            try:
                image_id = await self._find(entry)
            except AnswerLost:
                return
            if image_id is None:
                log.warning("%s was interrupted before the service began with it.", _subject(wanted))
                await self._journal.settle(entry)
            else:
                await self._accepted(entry, image_id)

    async def _request(self, errand: Errand, entry: Entry[Creation], request: Callable[..., str]) -> str:
        may_repeat = True
        while True:
            try:
                image_id = self._checked(entry, await self._service.call(request))
            except ServiceError as error:
                if not error.maybe_done:
                    await self._journal.settle(entry)
                    raise
                found = await self._find(entry)
                if found is not None:
                    image_id = found
                elif errand.attended and may_repeat:
                    may_repeat = False
                    continue
                else:
                    await self._journal.settle(entry)
                    raise
            await self._accepted(entry, image_id)
            return image_id

    def _checked(self, entry: Entry[Creation], image_id: str) -> str:
        """An id that the service answered, where it can be that of a new image."""
        if image_id in entry.intent.known_ids or image_id in self._claimed_ids(entry):
            raise AnswerLost(
                f"{_subject(entry.intent)}: the service names image {image_id}, which is not new"
            )
        return image_id

    async def _accepted(self, entry: Entry[Creation], image_id: str) -> None:
        known = replace(entry.intent, image_id=image_id, known_ids=frozenset())
        await self._journal.record(entry, known)

    async def _find(self, entry: Entry[Creation]) -> str | None:
        """The new image that a request led to whose answer is not known; None where there is none.

        Waits for as long as the service cannot be reached, and looks twice, as it may be slow. Raises
        AnswerLost where several images may be the one; none of them is touched then.
        """
        for pause_s in (self._around.settings.second_look_s, 0.0):
            candidates = self._candidates(entry, await self._service.answered_listing())
            if len(candidates) == 1:
                log.info(
                    "%s: its answer was lost, and it is image %s.", _subject(entry.intent), candidates[0]
                )
                return candidates[0]
            if candidates:
                raise await self._ambiguous(entry, candidates)
            await trio.sleep(pause_s)
        return None

    def _candidates(self, entry: Entry[Creation], listing: Snapshot) -> list[str]:
        wanted = entry.intent
        names = {*wanted.first_names, wanted.name}
        taken = wanted.known_ids | self._claimed_ids(entry)
        return [
            image.image_id
            for image in listing.in_region(wanted.region)
            if image.name in names and image.image_id not in taken
        ]

    def _claimed_ids(self, entry: Entry[Creation]) -> set[str]:
        """The images that are known to be other requests', and the source."""
        others = (other.intent.image_id for other in self._journal.creations if other is not entry)
        return {image_id for image_id in (*others, entry.intent.source_id) if image_id is not None}

    async def _ambiguous(self, entry: Entry[Creation], candidates: list[str]) -> AnswerLost:
        ids = ", ".join(candidates)
        text = (
            f"{_subject(entry.intent)}: the answer was lost, and each of the images {ids} may be the new one;"
            " none of them was touched, so look which of them you want"
        )
        log.error("%s.", text)
        await self._journal.settle(entry, leaving=[Remark(tuple(candidates), error=text)])
        return AnswerLost(text)


def _subject(wanted: Creation) -> str:
    """What a message is about."""
    if wanted.source_id is None:
        return f"The fetch of {wanted.name!a} to {wanted.region!a}"
    return f"The replication of image {wanted.source_id} to {wanted.region!a}"
