"""Changes to the account: rename, delete, replicate, move, fetch.

Used by :class:`imagefs.account.Account`, which offers them to the tree; on trio's thread.

A change that may take more than one call is in the journal before the first of them, and goes through these states::

    replicate, fetch        Creation without id ── answered ──▶ Creation with id ── active, named, checked ──▶ done
                              │ answer lost: found by listing ──▲    │ failed, wrong: Remark; the source stays
                              │ put off (503): asked again           │
                              │ not there: given up, in doubt        │
                              └ several: Remark on each              └ of a move: Deletion of the source ──▶ done
    delete, put off         Deletion ── its replicas are done, the service lets it go ──▶ done

After a crash each of these is taken up where it stands. Only a request that the service has not begun with is dropped,
as whoever made it had no answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from imagefs.account.creation import Creator
from imagefs.account.details import DetailsCache
from imagefs.account.errands import Errand, Errands
from imagefs.account.finishing import is_for_now
from imagefs.account.journal import Entry, Journal
from imagefs.account.locks import KeyedLocks
from imagefs.account.others import Others
from imagefs.account.pending import PendingWork
from imagefs.account.persistence import persistently
from imagefs.account.repeating import Repeater
from imagefs.account.service import Service
from imagefs.account.surroundings import Surroundings
from imagefs.account.view import View
from imagefs.core.control_lines import FetchRequest
from imagefs.core.intents import Creation, Deletion, Intent
from imagefs.core.models import ContentKey, ImageDetails, ListedImage, Phase, require_active
from imagefs.errors import (
    ImagefsError,
    NotFound,
    NotPermitted,
    NotSupported,
    ReadOnly,
    Refused,
    RefusedUnknownImage,
    ServiceError,
    StoreError,
)

log = logging.getLogger(__name__)


class Changes:
    """Carries changes out, one at a time for each image.

    Every method returns within ``AccountSettings.change_deadline_s``. What was sent by then goes on, and the caller
    gets AnswerLost. Busy is raised where another change of the image took that long.
    """

    def __init__(
        self,
        service: Service,
        journal: Journal,
        view: View,
        details: DetailsCache,
        work: PendingWork,
        errands: Errands,
        images: KeyedLocks,
        around: Surroundings,
    ) -> None:
        self._service = service
        self._journal = journal
        self._view = view
        self._details = details
        self._work = work
        self._images = images
        self._around = around
        self._errands = errands
        self._repeater = Repeater(service, around)
        self._others = Others(service, journal, view, around)
        self._creator = Creator(service, journal, view, images, around)

    def resume(self) -> None:
        """Take up what an earlier mount left in the journal."""
        for entry in tuple(self._journal.creations):
            if entry.intent.image_id is None:
                work = partial(self._resume, entry)
                what = "Finding out what became of a change"
                self._around.start(partial(persistently, what, work, self._around))
        self._work.nudge()

    async def rename(self, image_id: str, name: str) -> None:
        """Give an image another name."""
        self._check_writable()
        work = partial(self._rename, image_id, name)
        await self._errands.run(f"The renaming of image {image_id}", work, self._noting(image_id))

    async def delete(self, image_id: str) -> None:
        """Delete an image, or hide it and have it deleted once nothing needs it any more."""
        self._check_deletable()
        work = partial(self._delete, image_id)
        await self._errands.run(f"The deletion of image {image_id}", work, self._noting(image_id))

    async def replicate(self, image_id: str, region: str, name: str, *, move: bool) -> str:
        """Have an image copied to another region under *name*; the replica's id. *move* deletes the source."""
        if move:
            self._check_deletable()
        self._check_writable()
        subject = f"The replication of image {image_id} to {region!a}"
        work = partial(self._replicate, image_id, region, name, move)
        return await self._errands.run(subject, work, self._noting(image_id))

    async def fetch(self, request: FetchRequest, region: str, expected: ContentKey | None = None) -> str:
        """Have the service download an image; its id. *expected* is what it must hold, where that is known."""
        self._check_writable()
        work = partial(self._fetch, request, region, expected)
        return await self._errands.run(f"The fetch of {request.name!a} to {region!a}", work)

    def forget(self, image_id: str) -> None:
        """An image is surely gone: the service may give its id to a new one."""
        self._creator.forget(image_id)

    def expected_details(self, image_id: str) -> ImageDetails | None:
        """What stands for the details of an image that this mount has asked for, until it is active."""
        entry = self._journal.creation_of(image_id)
        image = None if entry is None else self._view.shown(image_id)
        if entry is None or image is None or image.phase is not Phase.PENDING:
            return None
        return ImageDetails(
            image_id,
            image.name,
            image.region,
            image.status,
            size_bytes=entry.intent.size_bytes,
            checksum=None,
            time_created_ns=entry.intent.began_ns,
            fields=(("name", image.name), ("region", image.region), ("status", image.status)),
        )

    def location_of(self, image_id: str) -> str | None:
        """Where a fetched image comes from, fit to be shown."""
        entry = self._journal.creation_of(image_id)
        if entry is not None:
            return entry.intent.location
        remark = self._journal.remark_on(image_id)
        return None if remark is None else remark.location

    def _noting(self, image_id: str) -> Callable[[ImagefsError | None], None]:
        """Keeps why a change failed as the last failure of its image, if that is still there."""

        def note(error: ImagefsError | None) -> None:
            if error is None:
                self._details.note_error(image_id, None)
            elif isinstance(error, ServiceError | StoreError) and self._view.shown(image_id) is not None:
                self._details.note_error(image_id, str(error))

        return note

    async def _resume(self, entry: Entry[Creation]) -> None:
        await self._creator.resume(entry)
        self._work.nudge()

    async def _rename(self, image_id: str, name: str, errand: Errand) -> None:
        async with self._images[image_id]:
            errand.begin()
            image = self._visible(image_id)
            creation = self._journal.creation_of(image_id)
            if creation is not None:
                errand.commit()
                wanted = creation.intent
                names = (*wanted.first_names, wanted.name)
                await self._journal.update(creation, replace(wanted, name=name, first_names=names))
                self._work.nudge()
            elif image.name != name:
                await self._repeater.rename(errand, image_id, name)
                self._view.note_renamed(self._service.listed(image_id) or image, name)

    async def _delete(self, image_id: str, errand: Errand) -> None:
        async with self._images[image_id]:
            errand.begin()
            image = self._visible(image_id)
            known = self._details.known(image_id)
            awaits = await self._others.pending_copies_of(image, None if known is None else known.size_bytes)
            if awaits or self._journal.replicas_of(image_id):
                errand.commit()
                await self._journal.add(Deletion(image_id, awaits=awaits), *self._ended_with(image_id))
                self._work.nudge()
                return
            try:
                await self._repeater.delete(errand, image_id)
            except RefusedUnknownImage:
                if self._journal.creation_of(image_id) and image_id not in self._service.seen:
                    await self._forget_creation(image_id, Deletion(image_id, promised=True))
                    return
                self._view.note_deleted(image_id)
                await self._forget_creation(image_id)
                raise
            except Refused as refusal:
                if not is_for_now(refusal, image):
                    raise
                await self._forget_creation(image_id, Deletion(image_id))
            else:
                self._view.note_deleted(image_id)
                await self._forget_creation(image_id)

    async def _forget_creation(self, image_id: str, *leaving: Intent) -> None:
        await self._journal.settle(*self._ended_with(image_id), leaving=leaving)
        self._work.nudge()

    def _ended_with(self, image_id: str) -> list[Entry[Creation]]:
        """What ends when a pending image is deleted by the person who asked for it; if a move did, the source stays."""
        creation = self._journal.creation_of(image_id)
        if creation is None:
            return []
        if creation.intent.move:
            log.warning("Image %s stays, as its replica was deleted.", creation.intent.source_id)
        return [creation]

    async def _replicate(self, image_id: str, region: str, name: str, move: bool, errand: Errand) -> str:
        async with self._images[image_id]:
            errand.begin()
            image = self._visible(image_id)
            self._check_replicable(image, region)
            known = self._details.known(image_id)
            if known is None or known.phase is not Phase.ACTIVE or (move and known.checksum is None):
                known = await self._details.fetch(image_id)
                self._check_replicable(known, region)  # they may be older than the listing, and not complete
            if move and None in (known.size_bytes, known.checksum):
                raise NotSupported(
                    f"Image {image_id} has no size or checksum by which a replica could be checked: copy it, and"
                    " delete it yourself."
                )
            listed = self._service.listed(image_id) or image
            wanted = Creation(
                region,
                name,
                self._around.wall_ns(),
                first_names=(image.name, listed.name),
                source_id=image_id,
                size_bytes=known.size_bytes,
                checksum=known.checksum,
                move=move,
            )
            request = partial(self._service.client.replicate_image, image_id, region)
            try:
                replica_id = await self._creator.create(errand, wanted, request)
            except Refused as refusal:
                raise await self._service.judged(image_id, refusal) from None
        self._work.nudge()
        return replica_id

    async def _fetch(
        self, request: FetchRequest, region: str, expected: ContentKey | None, errand: Errand
    ) -> str:
        errand.begin()
        wanted = Creation(
            region,
            request.name,
            self._around.wall_ns(),
            first_names=(request.name,),
            # Content of this machine is served at an address that only the service may know.
            location=request.shown_url if expected is None else None,
            size_bytes=None if expected is None else expected.size_bytes,
            checksum=None if expected is None else expected.checksum,
        )
        call = partial(
            self._service.client.fetch_image,
            region=region,
            name=request.name,
            location=request.url,
            image_format=request.image_format,
            virtio=request.virtio,
        )
        image_id = await self._creator.create(errand, wanted, call)
        self._work.nudge()
        return image_id

    def _check_writable(self) -> None:
        if self._around.settings.read_only:
            raise ReadOnly("The account is mounted read-only.")

    def _check_deletable(self) -> None:
        self._check_writable()
        if self._around.settings.no_delete:
            raise NotPermitted("The account is mounted so that no image can be deleted or moved.")

    def _check_replicable(self, image: ListedImage | ImageDetails, region: str) -> None:
        if image.region == region:
            raise NotSupported(
                f"Image {image.image_id} is in {region!a} already, and cannot be copied there."
            )
        require_active(image)

    def _visible(self, image_id: str) -> ListedImage:
        image = self._view.shown(image_id)
        if image is None:
            raise NotFound(f"Image {image_id} is gone from the account.")
        return image
