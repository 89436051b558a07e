"""Files that were created in a region and are not images yet.

A program that copies an image creates a file and fills it: by copying ranges of another file of the mount, or by
writing bytes. As soon as it is known which image's content the file has, the service replicates that image, and the
draft is *settled*: from then on it stands for the new image. A draft whose content no image of another region has
is refused and leaves nothing.

On trio's thread; spools are written in worker threads.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from imagefs.account import Account
from imagefs.core.names import decode
from imagefs.errors import Busy, ImagefsError, NotSupported
from imagefs.vfs.draft_file import DraftFile, SpoolFile
from imagefs.vfs.fillers import Fillers
from imagefs.vfs.filling import Filling
from imagefs.vfs.settling import Settling

if TYPE_CHECKING:
    from imagefs.publish import Publisher  # only mounts that publish load it

logger = logging.getLogger(__name__)

LINGER_S: Final = 5.0
"""How long an empty file that nobody has open is kept: some programs create first, and open again to write."""

NAMES_PATIENCE_S: Final = 30.0
"""How long a rename or removal waits for the draft: the kernel holds its directory meanwhile."""

FIRST_NUMBER: Final = 2
"""Inode numbers from here up to 2**31 live only as long as a mount (:mod:`imagefs.core.inodes`)."""


class Drafts:
    """The drafts of one mount: their names, and how long they live. What is in them is :attr:`filling`."""

    def __init__(
        self,
        account: Account,
        new_spool: Callable[[], SpoolFile],
        disk_threads: trio.CapacityLimiter,
        spawn: Callable[..., None],
        publisher: Publisher | None = None,
    ) -> None:
        """Without *publisher*, content that no image has is refused."""
        self._spawn = spawn
        self._numbers = itertools.count(FIRST_NUMBER)
        self._by_number: dict[int, DraftFile] = {}
        self._settling = Settling(account, disk_threads, spawn, self._let_go, publisher)
        self.filling = Filling(account, self._settling, new_spool, disk_threads)

    # The directory

    def create(
        self, region: str, filename: str, created_ns: int, creator: Fillers | None = None
    ) -> DraftFile:
        """A new, empty draft."""
        draft = DraftFile(next(self._numbers), region, filename, created_ns, creator)
        self._by_number[draft.number] = draft
        return draft

    def get(self, number: int) -> DraftFile | None:
        """The draft with this inode number, settled or not."""
        return self._by_number.get(number)

    def find(self, region: str, filename: str) -> DraftFile | None:
        """The draft that *filename* means in *region*, unless it is an image already."""
        name = decode(filename)
        return next((draft for draft in self.in_region(region) if draft.name == name), None)

    def in_region(self, region: str) -> Iterator[DraftFile]:
        """The drafts that the directory shows."""
        return (draft for draft in self._by_number.values() if draft.region == region and draft.is_open)

    def forget(self, number: int) -> None:
        """The kernel knows the inode no more."""
        draft = self._by_number.get(number)
        if draft is not None and not draft.is_open:
            del self._by_number[number]

    async def rename(self, draft: DraftFile, region: str, filename: str) -> bool:
        """Rename a draft; False if it is an image by now. Raises Busy, or the reason why it was refused."""
        async with self._exclusively(draft):
            draft.raise_if_refused()
            if draft.image_id is None:
                draft.region, draft.filename = region, filename
            return draft.image_id is None

    async def remove(self, draft: DraftFile, reason: ImagefsError) -> bool:
        """Take a draft out of its directory; False if it is an image by now. Raises Busy."""
        async with self._exclusively(draft):
            if draft.image_id is None:
                await self._settling.refuse(draft, reason)
            return draft.image_id is None

    @asynccontextmanager
    async def _exclusively(self, draft: DraftFile) -> AsyncIterator[None]:
        """Hold *draft* alone, once it is not being settled either. Raises Busy after NAMES_PATIENCE_S."""
        with trio.move_on_after(NAMES_PATIENCE_S) as waiting:
            await draft.busy.acquire()
            try:
                await draft.settled()
                waiting.deadline = math.inf
                yield
            finally:
                draft.busy.release()
        if waiting.cancelled_caught:
            raise Busy(f"{draft.filename!r} is still being copied.")

    def opened(self, draft: DraftFile) -> None:
        """One handle more."""
        draft.handles += 1

    async def released(self, draft: DraftFile) -> None:
        """One handle less. A draft that nobody filled goes a little later."""
        draft.handles -= 1
        if draft.handles:
            return
        if draft.is_open:
            self._spawn(self._linger, draft)
            return
        await self._settling.close_spool(draft)
        self._let_go(draft)

    async def _linger(self, draft: DraftFile) -> None:
        """Take away a draft that stays closed. Raises nothing: a bug in a task like this one would end the mount."""
        try:
            await trio.sleep(LINGER_S)
            async with draft.busy:
                await draft.settled()
                if draft.handles:
                    return
                try:
                    await self.filling.let_go(draft)
                except ImagefsError as error:
                    logger.warning("%r in %s is gone: %s", draft.filename, draft.region, error)
                if draft.is_open:
                    await self._settling.refuse(draft, NotSupported(f"{draft.filename!r} was removed."))
                await self._settling.close_spool(draft)
        except Exception:
            logger.exception("A draft could not be removed.")

    def _let_go(self, draft: DraftFile) -> None:
        """A refused draft that nobody has open is not needed any more."""
        if draft.error is not None and not draft.handles:
            self._by_number.pop(draft.number, None)
