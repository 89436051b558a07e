"""New images: asked for once, and found again where the answer was lost.

Used by :class:`imagefs.account.changes.Changes` on trio's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Final

import trio

from imagefs.account.errands import Errand
from imagefs.account.finishing import is_as_wanted
from imagefs.account.journal import Entry, Journal
from imagefs.account.locks import KeyedLocks
from imagefs.account.persistence import persistently
from imagefs.account.service import Service
from imagefs.account.snapshot import Snapshot
from imagefs.account.surroundings import Surroundings
from imagefs.account.view import View
from imagefs.core.intents import Creation, Remark
from imagefs.core.models import Phase
from imagefs.errors import AnswerLost, ImagefsError, PutOff, ServiceError

log = logging.getLogger(__name__)

_NOT_LISTED: Final = "no image is listed that it may have led to, although one may yet be"


class Creator:
    """Has the service begin new images, never one more than was asked for.

    A request is sent again only if the service said that it did not take it up, and lists no image that it may have led
    to. A listing alone proves nothing by what it leaves out, as it may be old.

    In one region, one image of a name is asked for at a time, until it is known what became of the request. So whatever
    else of that name appears there meanwhile was not asked for by this mount.
    """

    def __init__(
        self, service: Service, journal: Journal, view: View, images: KeyedLocks, around: Surroundings
    ) -> None:
        """*images* are the locks by image id; callers hold the source's."""
        self._service = service
        self._journal = journal
        self._view = view
        self._images = images
        self._around = around
        self._names = KeyedLocks()
        self._made: set[str] = set()

    async def create(self, errand: Errand, wanted: Creation, request: Callable[..., str]) -> str:
        """Send *request*, a method of the client with its arguments, for the image *wanted*; the new id.

        Raises ServiceError, and AnswerLost where it cannot be told which image is the new one; StoreError
        before anything was sent.
        """
        async with AsyncExitStack() as held:
            wanted = await self._listed(wanted, held)
            # All listings so far: an image that this one leaves out, as it is cut or old, is not new for that.
            seen = self._service.seen
            in_region = (image_id for image_id, region in seen.items() if region == wanted.region)
            known_ids, old_ids = frozenset(in_region) | self._made, frozenset(seen)
            if all(other.intent.image_id is not None for other in self._journal.creations):
                self._made -= old_ids  # for whoever asks from now on, these were there before
            errand.commit()
            entry = await self._journal.add(replace(wanted, known_ids=known_ids))
            try:
                return await self._request(errand, entry, request, old_ids)
            except ImagefsError:
                raise
            except Exception:
                find_out = partial(self.resume, entry)
                self._around.start(partial(persistently, _subject(wanted), find_out, self._around))
                raise

    async def resume(self, entry: Entry[Creation]) -> None:
        """Find out what became of a request of an earlier mount, which is never sent again."""
        wanted = entry.intent
        async with AsyncExitStack() as held:
            if wanted.source_id is not None:
                await held.enter_async_context(self._images[wanted.source_id])
            await self._claim_names(wanted, held)
            if entry.intent.image_id is not None or not self._journal.holds(entry):
                return  # it was settled meanwhile
            try:
                image_id = await self._find(entry, self._around.settings.look_for_s)
            except AnswerLost:
                return
            if image_id is None:
                log.warning("%s was interrupted; %s.", _subject(wanted), _NOT_LISTED)
                await self._journal.settle(entry)
            else:
                await self._accepted(entry, image_id)

    def forget(self, image_id: str) -> None:
        """An image that was made here is surely gone."""
        self._made.discard(image_id)

    async def _listed(self, wanted: Creation, held: AsyncExitStack) -> Creation:
        """*wanted* with all names that the new image may have at first, claimed until *held* is left; lists anew.

        The service gives a replica the name of its source, which somebody else may have renamed since.
        """
        while True:
            claimed = await held.enter_async_context(AsyncExitStack())
            await self._claim_names(wanted, claimed)
            await self._service.listing()
            source = None if wanted.source_id is None else self._service.listed(wanted.source_id)
            if source is None or source.name in wanted.first_names:
                return wanted
            await claimed.aclose()
            wanted = replace(wanted, first_names=(*wanted.first_names, source.name))

    async def _claim_names(self, wanted: Creation, held: AsyncExitStack) -> None:
        """Until *held* is left, keep others from asking for an image that could be taken for this one's."""
        for name in sorted({*wanted.first_names, wanted.name}):
            await held.enter_async_context(self._names[f"{wanted.region}/{name}"])

    async def _request(
        self, errand: Errand, entry: Entry[Creation], request: Callable[..., str], old_ids: Set[str]
    ) -> str:
        look_for_s = self._around.settings.look_for_s
        while True:
            try:
                image_id = await self._service.call(request, errand.left_s)
                is_old = image_id in old_ids or image_id in self._taken_ids(entry)
                if is_old and not self._view.has_deleted(image_id):  # some services give an id anew
                    raise AnswerLost(
                        f"{_subject(entry.intent)}: the service names image {image_id}, which is not new"
                    )
            except ServiceError as error:
                if not error.maybe_done:
                    await self._journal.settle(entry)
                    raise
                errand.doubt = _doubt(error)
                again = isinstance(error, PutOff) and await errand.sit_out(error)
                found = await self._find(entry, 0.0 if isinstance(error, PutOff) else look_for_s)
                if found is None and again and errand.attended:
                    continue
                if found is None:
                    await self._journal.settle(entry)
                    raise errand.doubt from None
                image_id = found
            await self._accepted(entry, image_id)
            return image_id

    async def _accepted(self, entry: Entry[Creation], image_id: str) -> None:
        if self._view.has_deleted(image_id):
            self._service.forget(image_id)  # what was listed by this id was another image
        self._made.add(image_id)
        self._view.note_made(image_id)
        known = replace(entry.intent, image_id=image_id, known_ids=frozenset())
        await self._journal.record(entry, known)

    async def _find(self, entry: Entry[Creation], look_for_s: float) -> str | None:
        """The new image that a request without an answer led to; None where none is listed.

        Waits for as long as the service cannot be reached, and looks for *look_for_s*, as a listing may be old. Raises
        AnswerLost where several images may be the one, or the only one has other content; none is touched then.
        """
        last_look_at = self._around.clock() + look_for_s
        while True:
            looked_at = self._around.clock()
            candidates = self._candidates(entry, await self._service.answered_listing())
            if len(candidates) == 1 and not await self._has_other_content(entry.intent, candidates[0]):
                log.info(
                    "%s: its answer was lost, and it is image %s.", _subject(entry.intent), candidates[0]
                )
                return candidates[0]
            if candidates:
                raise await self._ambiguous(entry, candidates)
            if looked_at >= last_look_at:
                return None
            await trio.sleep(self._around.settings.second_look_s)

    def _candidates(self, entry: Entry[Creation], listing: Snapshot) -> list[str]:
        wanted = entry.intent
        names = {*wanted.first_names, wanted.name}
        taken = self._taken_ids(entry)
        return [
            image.image_id
            for image in listing.in_region(wanted.region)
            if image.name in names and image.image_id not in taken
        ]

    async def _has_other_content(self, wanted: Creation, image_id: str) -> bool:
        """Whether an image is complete and not what was asked for: most likely somebody else's."""
        if wanted.source_id is None:
            return False
        try:
            details = await self._service.details(image_id)
        except ServiceError:
            return False
        as_far_as_known = replace(wanted, move=False)
        return details.phase is Phase.ACTIVE and not is_as_wanted(details, as_far_as_known)

    def _taken_ids(self, entry: Entry[Creation]) -> set[str]:
        """The images that cannot be the new one: those that were there before, the source, other requests'."""
        others = (other.intent.image_id for other in self._journal.creations if other is not entry)
        others_ids = {image_id for image_id in (*others, entry.intent.source_id) if image_id is not None}
        return others_ids | entry.intent.known_ids | self._made

    async def _ambiguous(self, entry: Entry[Creation], candidates: list[str]) -> AnswerLost:
        ids = ", ".join(candidates)
        text = (
            f"{_subject(entry.intent)}: the answer was lost, and each of the images {ids} may be the new one;"
            " none of them was touched, so look which of them you want"
        )
        log.error("%s.", text)
        await self._journal.settle(entry, leaving=[Remark(tuple(candidates), error=text)])
        return AnswerLost(text)


def _doubt(error: ServiceError) -> AnswerLost:
    """*error* of a request that may have been carried out, in words for someone who may want to ask again."""
    if isinstance(error, PutOff):
        return error
    kind = type(error) if isinstance(error, AnswerLost) else AnswerLost
    return kind(f"{error}; {_NOT_LISTED}, and it was not asked for again")


def _subject(wanted: Creation) -> str:
    """What a message is about."""
    if wanted.source_id is None:
        return f"The fetch of {wanted.name!a} to {wanted.region!a}"
    return f"The replication of image {wanted.source_id} to {wanted.region!a}"
