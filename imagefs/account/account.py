"""What the account holds, over time, and how it is changed.

Used by the tree on trio's thread. Listing and details come from the service through worker threads, stay in
memory and in the index, and go on serving when the service cannot be reached.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from random import Random

import trio

from imagefs.account.backoff import growing_pauses
from imagefs.account.changes import Changes
from imagefs.account.departed import Departed
from imagefs.account.details import DetailsCache
from imagefs.account.errands import Errands
from imagefs.account.finishing import Finisher
from imagefs.account.journal import Journal
from imagefs.account.listing import ListingCache
from imagefs.account.local_times import LocalTimes
from imagefs.account.locks import KeyedLocks
from imagefs.account.outage import Outage
from imagefs.account.pending import PendingWork
from imagefs.account.persistence import persistently
from imagefs.account.prefetch import Prefetch
from imagefs.account.protocols import AccountClient, AccountIndex, RunSync
from imagefs.account.service import Service
from imagefs.account.settings import AccountSettings
from imagefs.account.snapshot import NOTHING_LISTED, Snapshot
from imagefs.account.subscribers import Subscribers
from imagefs.account.surroundings import Surroundings
from imagefs.account.tasks import Tasks
from imagefs.account.threads import Threads
from imagefs.account.view import View
from imagefs.account.work import Work, work_of
from imagefs.account.writeback import IndexWriter
from imagefs.core.control_lines import FetchRequest
from imagefs.core.intents import Remark
from imagefs.core.models import ContentKey, ImageDetails, ListedImage
from imagefs.errors import StoreError

log = logging.getLogger(__name__)


class Account:
    """One account's images: the listing, their details, what went wrong with them, and how they are changed.

    First :meth:`open`, then :meth:`serve` in a task of its own; everything else needs both. Calls under way belong to
    that task, so that a caller who waits can be cancelled without taking the answer from the others.
    """

    def __init__(
        self,
        client: AccountClient,
        index: AccountIndex,
        *,
        settings: AccountSettings | None = None,
        clock: Callable[[], float] = trio.current_time,
        wall_ns: Callable[[], int] = time.time_ns,
        random: Random | None = None,
        run_sync: RunSync = trio.to_thread.run_sync,
    ) -> None:
        settings = settings or AccountSettings()
        chance = random or Random()  # noqa: S311  # jitter
        self._listing_subscribers: Subscribers[Snapshot] = Subscribers()
        self._details_subscribers: Subscribers[ImageDetails] = Subscribers()
        self._move_subscribers: Subscribers[str] = Subscribers()
        self._tasks = Tasks()
        around = Surroundings(settings, clock, wall_ns, chance, Threads(run_sync), self._tasks.start)
        self._around = around
        self._index = index
        self._outage = Outage(settings, clock)
        self._writer = IndexWriter(index, settings.write_delay_s, around.threads)
        self._listing = ListingCache(
            client,
            self._outage,
            around,
            lambda: departed.image_ids,
            self._on_listing,
            lambda image_id: self._changes.forget(image_id),  # noqa: PLW0108  # made below
        )
        self._details = DetailsCache(
            client, self._outage, self._writer, around, self.shown, self._details_subscribers.tell
        )
        errands = Errands(around)
        self._prefetch = Prefetch(
            self._details, self._outage, errands, around, lambda: self.snapshot or NOTHING_LISTED
        )
        images, service = KeyedLocks(), Service(client, self._listing, around)
        self._journal = Journal(index, around, self._on_journal)
        departed = Departed(service, self._journal, around, self._listing.forget)
        self._view = View(self._listing, self._journal, departed, around, self._on_view, self._on_deleted)
        finisher = Finisher(service, self._details, self._journal, self._view, around)
        self._work = PendingWork(service, finisher, self._journal, self._view, images, around)
        self._changes = Changes(
            service, self._journal, self._view, self._details, self._work, errands, images, around
        )
        self._times = LocalTimes(self._writer, service, self._view, around)

    async def open(self) -> None:
        """Load what the index kept from earlier runs; makes no call, and goes on without an index that fails."""
        try:
            keep = partial(self._around.threads.keep, abandon_on_cancel=True)
            self._details.restore(await keep(self._index.load_details))
            self._times.restore(await keep(self._index.load_mtimes))
            stored = await keep(self._index.load_listing)
            await self._journal.load()
        except StoreError as error:
            log.warning("What was known of the account cannot be read from disk: %s", error)
            return
        if stored is not None:
            self._listing.restore(Snapshot(stored.images, stored.fetched_ns))
            self._view.update()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run calls and writes until cancelled; *task_status* is started as soon as the account can be used."""
        async with self._tasks.running():
            if self._journal.loaded:
                self._changes.resume()
            else:
                self._keep_up("Taking up earlier changes", self._take_up)
            self._keep_up("The work on what is pending", self._work.run)
            task_status.started()
            await persistently("Writing to the index", self._writer.run, self._around)

    @property
    def snapshot(self) -> Snapshot | None:
        """The last good listing, however old, with what this mount has done since."""
        return self._view.snapshot

    def shown(self, image_id: str) -> ListedImage | None:
        """The image as :attr:`snapshot` has it; None where it has not."""
        return self._view.shown(image_id)

    async def images(self) -> Snapshot:
        """The current listing, at most as old as the settings say while the service answers.

        While it does not, the last good one, at once; it is then tried again in the background. Raises
        ServiceError only where there never was a listing.
        """
        return self._shown(await self._listing.current())

    async def refresh(self) -> Snapshot:
        """A listing asked for after this call began; raises ServiceError."""
        return self._shown(await self._listing.refresh())

    def known_details(self, image_id: str) -> ImageDetails | None:
        """An image's details where they need no call, else None."""
        self._note_asked(image_id)
        return self._changes.expected_details(image_id) or self._details.known(image_id)

    async def details(self, image_id: str) -> ImageDetails:
        """An image's details, by a call where they are not known.

        Name, region and status are those of the listing. An image that this mount has asked for has the size
        of its source, and no checksum, until it is active. Raises ServiceError; a failure is answered from
        memory for a few seconds.
        """
        region = self._note_asked(image_id)
        known = self._changes.expected_details(image_id) or self._details.known(image_id)
        if known is not None:
            await trio.lowlevel.checkpoint()
            return known
        self._details.check_failures(image_id)
        if region is None:
            return await self._details.fetch(image_id)
        self._prefetch.note_miss(region)
        try:
            return await self._details.fetch(image_id)
        finally:
            self._prefetch.note_miss_over(region)

    def prefetch_details(self, region: str) -> None:
        """Start to fetch all missing details of a region in the background, in listing order."""
        self._prefetch.start(region)

    def error_of(self, image_id: str) -> str | None:
        """The last failure that concerned the image, as a sentence for a person.

        That of a change stays over remounts, for as long as the image is there.
        """
        remark = self._journal.remark_on(image_id)
        failure = None if remark is None else remark.error
        return failure or self._details.error_of(image_id)

    def note_error(self, image_id: str, text: str | None) -> None:
        """Keep *text* as the image's last failure; None clears it, and so does the arrival of its details."""
        self._details.note_error(image_id, text)

    def doubt_details(self, image_id: str) -> trio.Event:
        """The image's content is not what its details say: they are looked up again, as the event tells."""
        return self._details.doubt(image_id)

    async def note_failure(self, image_id: str, text: str) -> None:
        """Keep *text* as why an image is not what was asked for; it stays for as long as the image is there."""
        await self._journal.settle(leaving=[Remark((image_id,), error=text, failed=True)])

    def location_of(self, image_id: str) -> str | None:
        """Where an image that was fetched through this account comes from, without credentials and query."""
        return self._changes.location_of(image_id)

    def is_going(self, image_id: str) -> bool:
        """Whether an image is hidden, but still there until its replica is active: its readers go on."""
        return self._view.is_going(image_id)

    def work(self) -> list[Work]:
        """What is under way: changes that are not finished, and images that are pending."""
        return work_of(self._journal, self.snapshot or NOTHING_LISTED)

    def local_mtime(self, image_id: str) -> int | None:
        """The modification time that a tool has set, in nanoseconds since the epoch."""
        return self._times.of(image_id)

    async def set_mtime(self, image_id: str, mtime_ns: int) -> None:
        """Keep a modification time, in nanoseconds since the epoch, over remounts."""
        self._times.keep(image_id, mtime_ns)
        await trio.lowlevel.checkpoint()

    async def rename(self, image_id: str, new_name: str) -> None:
        """Give an image another name; one that is still pending gets it as soon as the service permits.

        This and the other changes show in ``snapshot`` when they return. Each raises within 30 s
        (``change_deadline_s``): ServiceError, with AnswerLost where it goes on in the background; NotFound
        for an image that is not shown; Busy where another change of it has not ended; ReadOnly; StoreError
        where it cannot be written to the journal, and then nothing was done.
        """
        await self._changes.rename(image_id, new_name)

    async def delete(self, image_id: str) -> None:
        """Delete an image. Raises NotPermitted where the mount deletes nothing.

        An image with pending replicas, and a pending image that the service does not delete yet, is hidden at once and
        deleted later; should a replica fail, it is shown again.
        """
        await self._changes.delete(image_id)

    async def replicate(self, image_id: str, region: str, name: str) -> str:
        """Have an image copied to another region under *name*; the replica's id, once the service accepts.

        The replica is shown at once, with the size of its source. Raises NotSupported within one region,
        ImagePending and ImageFailed for a source that is not active.
        """
        return await self._changes.replicate(image_id, region, name, move=False)

    async def move(self, image_id: str, region: str, name: str) -> str:
        """As :meth:`replicate`, and the source goes.

        The source is hidden at once, deleted when the replica is active and has its size and checksum, and shown again
        if that does not happen; ``error_of`` either then tells why. So the second of two moves of one image raises
        NotFound. Raises NotSupported for a source without a checksum, and NotPermitted where the mount deletes nothing.
        """
        return await self._changes.replicate(image_id, region, name, move=True)

    async def fetch(self, request: FetchRequest, region: str, expected: ContentKey | None = None) -> str:
        """Have the service download an image, which is shown at once; its id.

        It counts as failed where its content is not the *expected* one.
        """
        return await self._changes.fetch(request, region, expected)

    async def wait_active(self, image_id: str) -> None:
        """Wait, without a deadline, until an image is active, and named and checked if this mount made it.

        Raises ImageFailed where it was killed or is not like its source, and NotFound where it is gone.
        """
        await self._work.wait_active(image_id)

    def subscribe(
        self,
        *,
        on_change: Callable[[Snapshot, Snapshot], None] | None = None,
        on_details_change: Callable[[ImageDetails, ImageDetails], None] | None = None,
        on_moved: Callable[[str, str], None] | None = None,
    ) -> None:
        """Call *on_change* with (old, new) listings that differ, *on_details_change* with details of other content.

        *on_moved* is called with the ids of the source and the replica of a move, once or more often, after the replica
        was found right and before the source is deleted.

        Subscribers are called on trio's thread and must not block. Before the first listing, the old one is empty.
        """
        if on_change is not None:
            self._listing_subscribers.add(on_change)
        if on_details_change is not None:
            self._details_subscribers.add(on_details_change)
        if on_moved is not None:
            self._move_subscribers.add(on_moved)

    def _keep_up(self, what: str, task: Callable[[], Awaitable[None]]) -> None:
        """Run *task* beside the others, and again after a bug in it."""
        self._tasks.start(lambda: persistently(what, task, self._around))

    async def _take_up(self) -> None:
        """Take up what earlier mounts left, as soon as the journal can be read."""
        settings = self._around.settings
        for pause_s in growing_pauses(settings.retry_first_s, settings.retry_max_s, self._around.random):
            with suppress(StoreError):
                await self._journal.load()
                self._changes.resume()
                return
            await trio.sleep(pause_s)

    def _note_asked(self, image_id: str) -> str | None:
        """Tell the prefetch that someone is interested; returns the image's region where it is shown."""
        image = self.shown(image_id)
        if image is None:
            return None
        self._prefetch.note_asked(image.region)
        return image.region

    def _shown(self, listed: Snapshot) -> Snapshot:
        """What is shown for a listing that was just asked for."""
        return self._view.snapshot or listed

    def _on_listing(self, old: Snapshot, new: Snapshot) -> None:
        if new.images != old.images:
            self._writer.keep_listing(new)
        self._view.update()
        self._work.listing_changed()
        if new.images != old.images:
            self._times.review()

    def _on_journal(self) -> None:
        self._view.update()
        for going in (entry.intent for entry in self._journal.deletions):
            if going.replica_id is not None:
                self._move_subscribers.tell(going.image_id, going.replica_id)

    def _on_view(self, old: Snapshot, new: Snapshot) -> None:
        if new.images != old.images:
            self._details.reconcile(old, new)
            self._listing_subscribers.tell(old, new)

    def _on_deleted(self, image_id: str) -> None:
        self._times.forget(image_id)
