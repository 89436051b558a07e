"""The last steps of what is pending: names, checks, deletions that had to wait.

Used by :class:`imagefs.account.pending.PendingWork` on trio's thread, which holds the image's lock and calls a method
again and again until the entry is gone from the journal.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from imagefs.account.details import DetailsCache
from imagefs.account.journal import Entry, Journal
from imagefs.account.naming import Naming
from imagefs.account.others import Others
from imagefs.account.service import Service
from imagefs.account.surroundings import Surroundings
from imagefs.account.view import View
from imagefs.core.intents import Creation, Deletion, Intent, Remark
from imagefs.core.models import ImageDetails, ListedImage, Phase, is_leaving
from imagefs.errors import MalformedAnswer, Refused, RefusedUnknownImage, ServiceError

log = logging.getLogger(__name__)


class Finisher:
    """Takes pending images a step further. Every method raises ServiceError where it is to be tried again."""

    def __init__(
        self,
        service: Service,
        details: DetailsCache,
        journal: Journal,
        view: View,
        around: Surroundings,
    ) -> None:
        self._service = service
        self._details = details
        self._journal = journal
        self._view = view
        self._around = around
        self._naming = Naming(service, journal, view)
        self._others = Others(service, journal, view, around)
        self._doubted_since: WeakKeyDictionary[Entry[Any], float] = WeakKeyDictionary()

    async def advance_creation(self, entry: Entry[Creation]) -> None:
        """Name a new image as soon as the service permits; once it is active, check it."""
        image_id = entry.intent.image_id
        assert image_id is not None, "only images whose id is known are advanced"
        image = self._service.listed(image_id)
        if image is None:
            await self._advance_unlisted(entry, image_id)
            return
        if image.region != entry.intent.region:
            await self._fail(
                entry, f"Image {image_id}, which the service named as the new one, is in {image.region!a}"
            )
            return
        if image.phase is Phase.FAILED:
            with suppress(ServiceError):  # with its name or without: what was moved is shown again
                await self._naming.give_name(entry, image)
            await self._fail(entry, f"The service could not make image {image_id} ({image.status})")
            return
        refusal = await self._naming.give_name(entry, image)
        if image.phase is Phase.ACTIVE:
            await self._check(entry, image, refusal)

    async def _advance_unlisted(self, entry: Entry[Creation], image_id: str) -> None:
        """Name a new image that is not listed yet; once it could be, give it up if it is gone or has failed."""
        await self._naming.name_unlisted(entry, image_id)
        settings = self._around.settings
        waited_s = self._service.listed_at - entry.since
        if waited_s <= settings.settle_s:
            return
        try:
            details = await self._service.details(image_id)
        except RefusedUnknownImage:
            is_gone = True
        else:
            is_gone = is_leaving(details.status)
            if details.phase is Phase.FAILED and not is_gone:
                await self._fail(entry, f"The service could not make image {image_id} ({details.status})")
                return
        was_there = image_id in self._service.seen or self._naming.has_named(entry)
        if is_gone and (was_there or waited_s > settings.appear_s):
            await self._fail(entry, f"Image {image_id} vanished before it was active")

    async def _check(self, entry: Entry[Creation], image: ListedImage, refusal: Refused | None) -> None:
        """Settle an active image: it is finished, or it is not what it should be.

        *refusal* is why it could not be renamed. It then keeps its name, unless the service may only be late: an image
        may be listed as active before it can be renamed.
        """
        wanted = entry.intent
        details = await self._details.fetch(image.image_id)
        if details.phase is not Phase.ACTIVE:
            return
        content = (wanted.size_bytes, wanted.checksum)
        if wanted.move and not _is_like(details, content):
            self._doubt(entry, details)
        if not is_as_wanted(details, wanted):
            original = "what it was made of" if wanted.source_id is None else f"its source {wanted.source_id}"
            text = f"Image {image.image_id} has another size or checksum than {original}"
            await self._fail(entry, text)
            return
        leaving: list[Intent] = []
        if wanted.move and wanted.source_id is not None:
            going = Deletion(wanted.source_id, image.image_id, wanted.size_bytes, wanted.checksum)
            leaving.append(going)
        error = None
        if refusal is not None:
            if is_unexplained(refusal):
                self._put_up_with(entry, refusal, self._around.settings.settle_s)
            error = f"It could not be renamed to {wanted.name!a}: {refusal}"
            log.warning("Image %s keeps its name. %s", image.image_id, error)
        if error is not None or wanted.location is not None:
            leaving.append(Remark((image.image_id,), error=error, location=wanted.location))
        await self._journal.settle(entry, leaving=leaving)

    async def _fail(self, entry: Entry[Creation], text: str) -> None:
        """Give an image up. Its source stays, although it may have been deleted in the meantime."""
        failed = entry.intent
        assert failed.image_id is not None, "only an image whose id is known can fail"
        log.warning("%s.", text)
        ended: list[Entry[Creation] | Entry[Deletion]] = [entry]
        remarks = [Remark((failed.image_id,), error=f"{text}.", failed=True, location=failed.location)]
        if failed.source_id is not None:
            deletion = self._journal.deletion_of(failed.source_id)
            if deletion is not None:
                ended.append(deletion)
            if failed.move or deletion is not None:
                log.warning("Image %s is not deleted, as its replica failed.", failed.source_id)
                kept = f"It was not deleted, as its replica failed: {text}."
                remarks.append(Remark((failed.source_id,), error=kept))
        await self._journal.settle(*ended, leaving=remarks)

    async def advance_deletion(self, entry: Entry[Deletion]) -> None:
        """Delete an image that is to go, unless something still needs it or the service does not permit it yet."""
        going = entry.intent
        image = self._service.listed(going.image_id)
        if self._journal.replicas_of(going.image_id) or self._journal.creation_of(going.image_id):
            return
        if image is None:
            if not self._may_appear(entry) and await self._service.is_gone(going.image_id):
                self._view.note_deleted(going.image_id)
                await self._journal.settle(entry)
            return
        if not await self._is_let_go(entry):
            return
        if going.replica_id is not None:
            if await self._is_copied_by_others(entry, image):
                return
            if not await self._is_replaced(entry):
                await self._keep(entry, "its replica is not what it was, or it has changed itself")
                return
        try:
            await self._service.call(partial(self._service.client.delete_image, going.image_id))
        except Refused as refusal:
            # A new image may be listed before the service knows it in any other call.
            is_early = isinstance(refusal, RefusedUnknownImage) and self._may_appear(entry)
            if is_early or not await self._service.is_gone(going.image_id):
                if not (is_early or is_for_now(refusal, image)):
                    await self._keep(entry, str(refusal))
                return
        self._view.note_deleted(going.image_id)
        await self._journal.settle(entry)

    def _may_appear(self, entry: Entry[Deletion]) -> bool:
        """Whether an image that is to go is so new that the service may not know it yet."""
        return (
            entry.intent.promised and self._service.listed_at <= entry.since + self._around.settings.appear_s
        )

    async def _is_let_go(self, entry: Entry[Deletion]) -> bool:
        """Whether nobody else may still be copying an image that is to go; if such a copy fails, the image is kept."""
        overdue = self._service.listed_at > entry.since + self._around.settings.others_s
        for image_id in entry.intent.awaits:
            try:
                phase = await self._phase_of(image_id)
            except ServiceError:
                if not overdue:
                    raise
                phase = Phase.PENDING
            if phase is Phase.FAILED or (overdue and phase is Phase.PENDING):
                state = "has failed" if phase is Phase.FAILED else "is still not ready"
                await self._keep(entry, f"image {image_id}, which may be made of it, {state}")
                return False
            if phase is Phase.PENDING:
                return False
        return True

    async def _is_copied_by_others(self, entry: Entry[Deletion], image: ListedImage) -> bool:
        """Whether somebody else may be making an image of the source of a move.

        That is waited for, though not for ever, as the content is in the replica.
        """
        if self._service.listed_at > entry.since + self._around.settings.others_s:
            return False
        return bool(await self._others.listed_copies_of(image, entry.intent.size_bytes))

    async def _phase_of(self, image_id: str) -> Phase | None:
        """The phase of an image, by its details if it is not listed; None for one that is gone or is to go."""
        if self._view.hides(image_id):
            return None
        image: ListedImage | ImageDetails | None = self._service.listed(image_id)
        if image is None:
            try:
                image = await self._service.details(image_id)
            except RefusedUnknownImage:
                return None
        return None if is_leaving(image.status) else image.phase

    async def _is_replaced(self, entry: Entry[Deletion]) -> bool:
        """Whether a move's replica, and its source unless that is gone already, have the content that was moved."""
        going = entry.intent
        for image_id in (going.replica_id, going.image_id):
            assert image_id is not None, "the end of a move has a replica"
            try:
                details = await self._service.details(image_id)
            except RefusedUnknownImage:
                if image_id == going.image_id:
                    continue
                return False
            if image_id == going.image_id and is_leaving(details.status):
                continue
            if not _is_like(details, (going.size_bytes, going.checksum)):
                self._doubt(entry, details)
                return False
        return True

    def _doubt(self, entry: Entry[Creation] | Entry[Deletion], details: ImageDetails) -> None:
        """Raise MalformedAnswer for details that say too little to end a move by them, unless they do so for long."""
        complete = details.phase is Phase.ACTIVE and None not in (details.size_bytes, details.checksum)
        if complete or details.phase is Phase.FAILED:
            return
        doubt = MalformedAnswer(f"The details of image {details.image_id} do not say what it holds")
        self._put_up_with(entry, doubt, self._around.settings.doubt_s)

    def _put_up_with(
        self, entry: Entry[Creation] | Entry[Deletion], error: ServiceError, patience_s: float
    ) -> None:
        """Raise *error*, so that the step is taken again, until that has gone on for *patience_s*."""
        began_at = self._doubted_since.setdefault(entry, self._around.clock())
        if self._around.clock() < began_at + patience_s:
            raise error

    async def _keep(self, entry: Entry[Deletion], reason: str) -> None:
        """Show an image again that cannot be deleted."""
        image_id = entry.intent.image_id
        log.warning("Image %s is not deleted: %s", image_id, reason)
        remark = Remark((image_id,), error=f"It was not deleted: {reason}")
        await self._journal.settle(entry, leaving=[remark])


def is_for_now(refusal: Refused, image: ListedImage) -> bool:
    """Whether a change of *image* may be accepted once it is no longer pending."""
    return image.phase is Phase.PENDING and is_unexplained(refusal)


def is_unexplained(refusal: Refused) -> bool:
    """Whether a refusal may be withdrawn before long.

    One that names a reason, such as a permission, stands. That the service does not know an image which it lists is no
    such reason.
    """
    return type(refusal) in (Refused, RefusedUnknownImage)


def _is_like(details: ImageDetails, content: tuple[int | None, str | None]) -> bool:
    """Whether *details* are those of an active image of this size and checksum."""
    return details.phase is Phase.ACTIVE and (details.size_bytes, details.checksum) == content


def is_as_wanted(details: ImageDetails, wanted: Creation) -> bool:
    """Whether *details* are those of an image with the content that *wanted* names.

    Compares what is known of both; for a move, size and checksum have to be.
    """
    if details.image_id == wanted.source_id or details.region != wanted.region:
        return False
    pairs = ((details.size_bytes, wanted.size_bytes), (details.checksum, wanted.checksum))
    return all(mine == theirs or (not wanted.move and None in (mine, theirs)) for mine, theirs in pairs)
