"""Changes on their way to the index: gathered for a moment, then written together.

Used by :class:`imagefs.account.Account` on trio's thread; the index is called in a worker thread, one call at a time.
What a crash loses here can be asked for again, so nobody waits for a write.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import trio

from imagefs.account.protocols import AccountIndex
from imagefs.account.snapshot import Snapshot
from imagefs.account.threads import Threads
from imagefs.core.models import ImageDetails
from imagefs.errors import StoreError

log = logging.getLogger(__name__)

_LAST_WRITE_S = 5.0


@dataclass
class _Batch:
    """Changes of which the last one of each kind and image counts."""

    listing: Snapshot | None = None
    details: dict[str, ImageDetails] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    mtimes_ns: dict[str, int | None] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not (self.listing or self.details or self.forgotten or self.mtimes_ns)

    def over(self, older: _Batch) -> _Batch:
        """*older*, overridden by these changes."""
        details = {image_id: one for image_id, one in older.details.items() if image_id not in self.forgotten}
        return _Batch(
            self.listing or older.listing,
            details | self.details,
            (older.forgotten - self.details.keys()) | self.forgotten,
            older.mtimes_ns | self.mtimes_ns,
        )


class IndexWriter:
    """Writes batches to the index for as long as :meth:`run` runs; never raises for a failing index.

    A batch that could not be written is written along with the next one.
    """

    def __init__(self, index: AccountIndex, write_delay_s: float, threads: Threads) -> None:
        self._index = index
        self._write_delay_s = write_delay_s
        self._threads = threads
        self._thread = trio.CapacityLimiter(1)
        self._batch = _Batch()
        self._wanted = trio.Event()
        self._failing = False

    def keep_listing(self, snapshot: Snapshot) -> None:
        """Replace the listing."""
        self._batch.listing = snapshot
        self._wanted.set()

    def keep_details(self, details: ImageDetails) -> None:
        """Add or replace one image's details."""
        self._batch.details[details.image_id] = details
        self._batch.forgotten.discard(details.image_id)
        self._wanted.set()

    def forget_details(self, image_ids: Iterable[str]) -> None:
        """Remove the details of images."""
        for image_id in image_ids:
            self._batch.details.pop(image_id, None)
            self._batch.forgotten.add(image_id)
            self._wanted.set()

    def keep_mtime(self, image_id: str, mtime_ns: int | None) -> None:
        """Add or replace one image's modification time, in nanoseconds since the epoch; None removes it."""
        self._batch.mtimes_ns[image_id] = mtime_ns
        self._wanted.set()

    async def run(self) -> None:
        """Write until cancelled, and then what is left."""
        try:
            while True:
                await self._wanted.wait()
                await trio.sleep(self._write_delay_s)
                await self.flush()
        finally:
            with trio.move_on_after(_LAST_WRITE_S, shield=True):
                await self.flush()

    async def flush(self) -> None:
        """Write what has been gathered."""
        if self._batch.is_empty:
            return
        batch, self._batch = self._batch, _Batch()
        self._wanted = trio.Event()
        try:
            write = partial(self._write, batch)
            await self._threads.keep(write, self._thread, abandon_on_cancel=True)
        except StoreError as error:
            self._batch = self._batch.over(batch)
            if not self._failing:
                log.warning("The account's listing and details are not kept on disk: %s", error)
            self._failing = True
        except Exception:
            log.exception("The account's listing and details were not written.")
        else:
            self._failing = False

    def _write(self, batch: _Batch) -> None:
        """Carry out one batch; runs in a worker thread."""
        if batch.listing is not None:
            self._index.save_listing(batch.listing.images, batch.listing.fetched_ns)
        if batch.forgotten:
            self._index.forget_details(batch.forgotten)
        if batch.details:
            self._index.save_details(batch.details.values())
        for image_id, mtime_ns in batch.mtimes_ns.items():
            self._index.save_mtime(image_id, mtime_ns)
