"""What the account holds, over time.

Used by the tree on trio's thread. Listing and details come from the service through worker threads, stay in
memory and in the index, and go on serving when the service cannot be reached.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import trio

from imagefs.account.details import DetailsCache
from imagefs.account.listing import ListingCache
from imagefs.account.outage import Outage
from imagefs.account.prefetch import Prefetch
from imagefs.account.protocols import AccountIndex, ListingClient, RunSync
from imagefs.account.settings import AccountSettings
from imagefs.account.snapshot import NOTHING_LISTED, Snapshot
from imagefs.account.surroundings import Surroundings
from imagefs.account.writeback import IndexWriter
from imagefs.core.models import ImageDetails, ListedImage
from imagefs.errors import StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")


class Account:
    """One account's images: the listing, their details, and what went wrong with them.

    First :meth:`open`, then :meth:`serve` in a task of its own; everything else needs both. Calls under way
    belong to that task, so that one who waits can be cancelled without taking the answer from the others.
    """

    def __init__(
        self,
        client: ListingClient,
        index: AccountIndex,
        *,
        settings: AccountSettings | None = None,
        clock: Callable[[], float] = trio.current_time,
        wall_ns: Callable[[], int] = time.time_ns,
        random: Random | None = None,
        run_sync: RunSync = trio.to_thread.run_sync,
    ) -> None:
        settings = settings or AccountSettings()
        around = Surroundings(settings, clock, wall_ns, random or Random(), run_sync, self._start)  # noqa: S311  # jitter
        self._around = around
        self._index = index
        self._nursery: trio.Nursery | None = None
        self._outage = Outage(settings, clock)
        self._writer = IndexWriter(index, settings.write_delay_s, run_sync)
        self._listing = ListingCache(client, self._outage, around, self._on_listing)
        self._details = DetailsCache(
            client, self._outage, self._writer, around, self._listed, self._on_details_changed
        )
        self._prefetch = Prefetch(
            self._details, self._outage, around, lambda: self.snapshot or NOTHING_LISTED
        )
        self._mtimes_ns: dict[str, int] = {}
        self._listing_subscribers: list[Callable[[Snapshot, Snapshot], None]] = []
        self._details_subscribers: list[Callable[[ImageDetails, ImageDetails], None]] = []

    async def open(self) -> None:
        """Load what the index kept of earlier runs; calls no service, and goes on without a failing index."""
        try:
            self._details.restore(await self._in_thread(self._index.load_details))
            self._mtimes_ns = await self._in_thread(self._index.load_mtimes)
            stored = await self._in_thread(self._index.load_listing)
        except StoreError as error:
            log.warning("What was known of the account cannot be read from disk: %s", error)
            return
        if stored is not None:
            snapshot = Snapshot(stored.images, stored.fetched_ns)
            self._listing.restore(snapshot)
            self._details.reconcile(NOTHING_LISTED, snapshot)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run calls and writes until cancelled; *task_status* is told as soon as the account can be used."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self._writer.run()
            finally:
                self._nursery = None

    @property
    def snapshot(self) -> Snapshot | None:
        """The last good listing, however old."""
        return self._listing.snapshot

    async def images(self) -> Snapshot:
        """The current listing, at most as old as the settings say while the service answers.

        While it does not, the last good one, at once; it is then tried again in the background. Raises
        ServiceError only where there never was a listing.
        """
        return await self._listing.current()

    async def refresh(self) -> Snapshot:
        """A listing asked for after this call began; raises ServiceError."""
        return await self._listing.refresh()

    def known_details(self, image_id: str) -> ImageDetails | None:
        """An image's details where they need no call, else None."""
        self._note_asked(image_id)
        return self._details.known(image_id)

    async def details(self, image_id: str, *, fresh: bool = False) -> ImageDetails:
        """An image's details, by a call where they are not known or *fresh* ones are asked for.

        Name, region and status are those of the listing. Raises ServiceError; a failure is answered from
        memory for a few seconds.
        """
        region = self._note_asked(image_id)
        known = self._details.known(image_id)
        if known is not None and not fresh:
            await trio.lowlevel.checkpoint()
            return known
        self._details.check_failures(image_id)
        if region is None or fresh:
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
        """The last failure that concerned the image, as a sentence for a person."""
        return self._details.error_of(image_id)

    def note_error(self, image_id: str, text: str | None) -> None:
        """Keep *text* as the image's last failure; None clears it, and so do details that arrive later."""
        self._details.note_error(image_id, text)

    def local_mtime(self, image_id: str) -> int | None:
        """The modification time that a tool has set, in nanoseconds since the epoch."""
        return self._mtimes_ns.get(image_id)

    async def set_mtime(self, image_id: str, mtime_ns: int) -> None:
        """Keep a modification time, in nanoseconds since the epoch, over remounts."""
        self._mtimes_ns[image_id] = mtime_ns
        self._writer.keep_mtime(image_id, mtime_ns)
        await trio.lowlevel.checkpoint()

    def subscribe(
        self,
        *,
        on_change: Callable[[Snapshot, Snapshot], None] | None = None,
        on_details_change: Callable[[ImageDetails, ImageDetails], None] | None = None,
    ) -> None:
        """Be told of (old, new) listings that differ, and of active images whose content does.

        Subscribers are called on trio's thread and must not block. Before the first listing, the old one is
        empty.
        """
        if on_change is not None:
            self._listing_subscribers.append(on_change)
        if on_details_change is not None:
            self._details_subscribers.append(on_details_change)

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run *task* beside the others; a bug in it is logged and ends only itself."""

        async def guarded() -> None:
            try:
                await task()
            except Exception:
                log.exception("A background task of the account failed.")

        if self._nursery is None:
            raise RuntimeError("Account.serve is not running")
        self._nursery.start_soon(guarded)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await self._around.run_sync(call, abandon_on_cancel=True)

    def _listed(self, image_id: str) -> ListedImage | None:
        return None if self.snapshot is None else self.snapshot.by_id.get(image_id)

    def _note_asked(self, image_id: str) -> str | None:
        """Tell the prefetch that someone is interested; gives the image's region where it is listed."""
        listed = self._listed(image_id)
        if listed is None:
            return None
        self._prefetch.note_asked(listed.region)
        return listed.region

    def _on_listing(self, old: Snapshot, new: Snapshot) -> None:
        if new.images == old.images:
            return
        self._details.reconcile(old, new)
        self._writer.keep_listing(new)
        _tell(self._listing_subscribers, old, new)

    def _on_details_changed(self, old: ImageDetails, new: ImageDetails) -> None:
        _tell(self._details_subscribers, old, new)


def _tell(subscribers: list[Callable[[T, T], None]], old: T, new: T) -> None:
    for subscriber in subscribers:
        try:
            subscriber(old, new)
        except Exception:
            log.exception("A subscriber to the account's changes failed.")
