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
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from imagefs.account import Account, Snapshot
from imagefs.core.extents import ExtentSet
from imagefs.core.models import ContentKey, ListedImage, Phase
from imagefs.core.names import decode
from imagefs.errors import (
    Busy,
    Exists,
    ImagefsError,
    NotSupported,
    ReadOnly,
    Refused,
    RefusedQuota,
    ServiceError,
    StoreError,
    Unreachable,
)

logger = logging.getLogger(__name__)

LINGER_S: Final = 5.0
"""How long an empty file that nobody has open is kept: some programs create first, and open again to write."""

NAMES_PATIENCE_S: Final = 30.0
"""How long a rename or removal waits for the draft: the kernel holds its directory meanwhile."""

PREPARING_BYTES: Final = 64 << 10
"""A file that was given a size and less than this of its content is still being prepared: ``qemu-img`` flushes it
so before it writes."""

FIRST_NUMBER: Final = 2
"""Inode numbers from here up to 2**32 live only as long as a mount (:mod:`imagefs.core.inodes`)."""


class SpoolFile(Protocol):
    """The part of :class:`imagefs.store.spool.Spool` that this module needs."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def written_bytes(self) -> int: ...
    def write(self, offset: int, data: bytes) -> None: ...
    def truncate(self, size_bytes: int) -> None: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def md5(self) -> str: ...
    def close(self) -> None: ...


@dataclass(eq=False, slots=True)
class DraftFile:
    """One draft.

    ``filename`` is its name as it was written; ``mtime_ns`` is what a tool has set; ``settling`` is there as soon
    as the service is asked, and set when it has answered: ``image_id`` and ``key`` are set then, or ``error``.
    """

    number: int
    region: str
    filename: str
    created_ns: int
    mtime_ns: int | None = None
    handles: int = 0
    size_bytes: int = 0
    settling: trio.Event | None = None
    image_id: str | None = None
    key: ContentKey | None = None
    error: ImagefsError | None = None
    spool: SpoolFile | None = None
    copied: dict[ContentKey, ExtentSet] = field(default_factory=dict)
    busy: trio.Lock = field(default_factory=trio.Lock)

    @property
    def name(self) -> str:
        """The name of the image that it is to be."""
        return decode(self.filename)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put into it yet."""
        return self.size_bytes == 0 and not self.copied

    @property
    def is_open(self) -> bool:
        """Whether it is neither settled nor refused."""
        return self.image_id is None and self.error is None


class Drafts:
    """The drafts of one mount."""

    def __init__(
        self,
        account: Account,
        new_spool: Callable[[], SpoolFile],
        disk_threads: trio.CapacityLimiter,
        spawn: Callable[..., None],
        vanished: Callable[[DraftFile], None],
    ) -> None:
        """*vanished* is told of a draft that is gone from its directory, settled or not."""
        self._account = account
        self._new_spool = new_spool
        self._disk_threads = disk_threads
        self._spawn = spawn
        self._vanished = vanished
        self._numbers = itertools.count(FIRST_NUMBER)
        self._by_number: dict[int, DraftFile] = {}
        self._sizes_of: Snapshot | None = None
        self._sizes: dict[str, frozenset[int]] = {}

    # The directory

    def create(self, region: str, filename: str, created_ns: int) -> DraftFile:
        """A new, empty draft."""
        draft = DraftFile(next(self._numbers), region, filename, created_ns)
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
        """Call a draft otherwise; False if it is an image by now. Raises Busy, or the reason why it was refused."""
        async with self._exclusively(draft):
            self._raise_if_refused(draft)
            if draft.image_id is None:
                draft.region, draft.filename = region, filename
            return draft.image_id is None

    async def remove(self, draft: DraftFile, reason: ImagefsError) -> bool:
        """Take a draft out of its directory; False if it is an image by now. Raises Busy."""
        async with self._exclusively(draft):
            if draft.image_id is None:
                await self._refuse(draft, reason)
            return draft.image_id is None

    @asynccontextmanager
    async def _exclusively(self, draft: DraftFile) -> AsyncIterator[None]:
        """Wait, not for long, until nothing else is done with *draft*, its settling included."""
        with trio.move_on_after(NAMES_PATIENCE_S) as waiting:
            await draft.busy.acquire()
            try:
                await self._settled(draft)
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
        await self._close_spool(draft)
        self._let_go(draft)

    async def _linger(self, draft: DraftFile) -> None:
        """A bug in a task like this one would end the mount."""
        try:
            await trio.sleep(LINGER_S)
            async with draft.busy:
                await self._settled(draft)
                if draft.handles:
                    return
                if draft.is_open:
                    if not draft.is_empty:
                        logger.warning(
                            "%r in %s was never filled, and is gone.", draft.filename, draft.region
                        )
                    await self._refuse(draft, NotSupported(f"{draft.filename!r} was removed."))
                await self._close_spool(draft)
        except Exception:
            logger.exception("A draft could not be removed.")

    async def _refuse(self, draft: DraftFile, reason: ImagefsError) -> None:
        """The draft leaves its directory, and whoever has it open gets *reason*."""
        if draft.is_open:
            draft.error = reason
            self._vanished(draft)
        await self._close_spool(draft)
        self._let_go(draft)

    def _let_go(self, draft: DraftFile) -> None:
        """A refused draft that nobody has open is not needed any more."""
        if draft.error is not None and not draft.handles:
            self._by_number.pop(draft.number, None)

    async def _close_spool(self, draft: DraftFile) -> None:
        spool, draft.spool = draft.spool, None
        if spool is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(spool.close, limiter=self._disk_threads)

    # Copying ranges

    async def copy(
        self, draft: DraftFile, source: ListedImage, source_offset: int, offset: int, length: int
    ) -> int:
        """Take *length* bytes at *source_offset* of an active image as the draft's from *offset* on.

        Returns how many that are: fewer at the image's end. The last piece that was missing has the image
        replicated. Pieces may come in any order and more than once.

        Raises NotSupported where the copy is none of a whole image of another region, or what the service answered.
        """
        details = await self._account.details(source.image_id)
        key = details.content_key
        if key is None or source.phase is not Phase.ACTIVE:
            raise NotSupported(f"Image {source.image_id} cannot be copied now.")
        length = min(length, max(0, key.size_bytes - source_offset))
        async with draft.busy:
            await self._settled(draft)
            self._raise_if_refused(draft)
            if draft.image_id is not None:
                if draft.key != key or source_offset != offset:
                    raise _is_image(draft)
                return length
            if source_offset != offset or draft.spool is not None:
                raise NotSupported("Only whole images can be copied.")
            replica_of = self._elsewhere(draft.region, key)
            if replica_of is None:
                error = NotSupported(
                    f"Image {source.image_id} is in {draft.region} already; the service cannot copy it there."
                )
                await self._refuse(draft, error)
                raise error
            extents = draft.copied.setdefault(key, ExtentSet())
            extents.add(offset, offset + length)
            draft.size_bytes = max(draft.size_bytes, offset + length)
            if extents.covers(0, key.size_bytes):
                await self._settle(draft, replica_of, key)
            return length

    def _elsewhere(self, region: str, key: ContentKey) -> ListedImage | None:
        """An active image outside *region* that has the content *key*, as far as details are known."""
        snapshot = self._account.snapshot
        for image in snapshot.images if snapshot else ():
            if image.region == region or image.phase is not Phase.ACTIVE:
                continue
            details = self._account.known_details(image.image_id)
            if details is not None and details.content_key == key:
                return image
        return None

    # Writing bytes

    async def write(self, draft: DraftFile, offset: int, data: bytes) -> int:
        """Write *data* at *offset*; the write that completes an image's content has it replicated.

        Where some image elsewhere is larger, the bytes may be only its beginning, and :meth:`flush` decides.

        Raises NotSupported for content that no image of another region has, what the service answered, or StoreError.
        """
        async with draft.busy:
            await self._settled(draft)
            self._raise_if_refused(draft)
            if draft.image_id is not None:
                await self._compare(draft, offset, data)
                return len(data)
            if draft.copied:
                await self._refuse_content(draft)
            spool = await self._spool(draft)
            await trio.to_thread.run_sync(spool.write, offset, data, limiter=self._disk_threads)
            draft.size_bytes = spool.size_bytes
            if (
                spool.written_bytes
                == spool.size_bytes
                == max(await self._sizes_elsewhere(draft.region), default=None)
            ):
                await self._settle_if_known(draft, spool)
            return len(data)

    async def truncate(self, draft: DraftFile, size_bytes: int) -> None:
        """Give the draft another size. Raises as :meth:`write`; ReadOnly for another size than that of its image."""
        async with draft.busy:
            await self._settled(draft)
            self._raise_if_refused(draft)
            if draft.image_id is not None or draft.copied:
                if size_bytes != draft.size_bytes:
                    raise _is_image(draft)
                return
            if size_bytes != draft.size_bytes:
                spool = await self._spool(draft)
                await trio.to_thread.run_sync(spool.truncate, size_bytes, limiter=self._disk_threads)
                draft.size_bytes = spool.size_bytes

    async def read(self, draft: DraftFile, offset: int, length: int) -> bytes:
        """What was written so far."""
        async with draft.busy:
            await self._settled(draft)
            self._raise_if_refused(draft)
            if draft.spool is None:
                return b""
            return await trio.to_thread.run_sync(draft.spool.read, offset, length, limiter=self._disk_threads)

    async def flush(self, draft: DraftFile) -> None:
        """A descriptor is closed: by now the content has to be known, unless there is none yet.

        Raises as :meth:`write`.
        """
        async with draft.busy:
            await self._settled(draft)
            self._raise_if_refused(draft)
            if draft.image_id is not None or draft.is_empty:
                return
            spool = draft.spool
            if spool is None:
                await self._refuse_content(draft)
            elif not await self._settle_if_known(draft, spool):
                if spool.written_bytes <= PREPARING_BYTES < spool.size_bytes:
                    return
                await self._refuse_content(draft)

    async def _compare(self, draft: DraftFile, offset: int, data: bytes) -> None:
        """Writing to a settled draft is fine as long as it changes nothing."""
        found = b""
        if draft.spool is not None:
            found = await trio.to_thread.run_sync(
                draft.spool.read, offset, len(data), limiter=self._disk_threads
            )
        if found != data:
            raise _is_image(draft)

    async def _spool(self, draft: DraftFile) -> SpoolFile:
        if draft.spool is None:
            draft.spool = await trio.to_thread.run_sync(self._new_spool, limiter=self._disk_threads)
        return draft.spool

    async def _settle_if_known(self, draft: DraftFile, spool: SpoolFile) -> bool:
        """Replicate the image that has just these bytes, if there is one."""
        size_bytes = spool.size_bytes
        if size_bytes not in await self._sizes_elsewhere(draft.region, anew=True):
            return False
        md5 = await trio.to_thread.run_sync(spool.md5, limiter=self._disk_threads)
        key = ContentKey(size_bytes, md5)
        image = self._elsewhere(draft.region, key)
        if image is None:
            return False
        await self._settle(draft, image, key)
        return True

    async def _sizes_elsewhere(self, region: str, *, anew: bool = False) -> frozenset[int]:
        """The sizes of the active images outside *region*; asks for details that are missing.

        Those of one listing are found out once, as every write needs them, unless *anew*.
        """
        snapshot = await self._account.images()
        if anew or self._sizes_of is not snapshot:
            self._sizes_of, self._sizes = snapshot, {}
        if region not in self._sizes:
            self._sizes[region] = await self._ask_for_sizes(snapshot, region)
        return self._sizes[region]

    async def _ask_for_sizes(self, snapshot: Snapshot, region: str) -> frozenset[int]:
        candidates = [
            image for image in snapshot.images if image.region != region and image.phase is Phase.ACTIVE
        ]
        for elsewhere in {image.region for image in candidates}:
            self._account.prefetch_details(elsewhere)
        sizes: set[int] = set()
        for image in candidates:
            details = self._account.known_details(image.image_id)
            if details is None:
                try:
                    details = await self._account.details(image.image_id)
                except ServiceError as error:
                    logger.info("Image %s cannot be compared: %s", image.image_id, error)
                    continue
            if details.size_bytes is not None:
                sizes.add(details.size_bytes)
        return frozenset(sizes)

    async def _refuse_content(self, draft: DraftFile) -> None:
        error = NotSupported(
            f"No image of another region has the content of {draft.name!r}; the service takes no other."
        )
        await self._refuse(draft, error)
        raise error

    # Settling

    async def _settle(self, draft: DraftFile, source: ListedImage, key: ContentKey) -> None:
        """Have *source* replicated under the draft's name; what the service answers is the draft's fate.

        That is a task of its own: a program that is stopped and goes on sends its last copy again, and there must
        be no second replica.
        """
        draft.settling = trio.Event()
        self._spawn(self._replicate, draft, source, key, draft.settling)
        await self._settled(draft)
        self._raise_if_refused(draft)

    async def _settled(self, draft: DraftFile) -> None:
        """Wait while the draft is being settled."""
        if draft.settling is not None:
            await draft.settling.wait()

    async def _replicate(
        self, draft: DraftFile, source: ListedImage, key: ContentKey, settled: trio.Event
    ) -> None:
        """Raises nothing: a bug in a task like this one would end the mount."""
        try:
            self._raise_if_taken(draft)
            draft.image_id = await self._account.replicate(source.image_id, draft.region, draft.name)
            draft.key = key
            self._vanished(draft)
            if draft.mtime_ns is not None:
                await self._account.set_mtime(draft.image_id, draft.mtime_ns)
            logger.info("%r in %s is a replica of image %s.", draft.filename, draft.region, source.image_id)
        except ImagefsError as error:
            logger.info("%r in %s is refused: %s", draft.filename, draft.region, error)
            await self._refuse(draft, _telling(error))
        except Exception as bug:
            logger.exception("A bug in the replication of image %s.", source.image_id)
            await self._refuse(draft, ImagefsError(f"Image {source.image_id} could not be copied: {bug!r}"))
        finally:
            settled.set()

    def _raise_if_taken(self, draft: DraftFile) -> None:
        snapshot = self._account.snapshot
        if snapshot is not None and snapshot.names(draft.region).resolve(draft.filename) is not None:
            raise Exists(f"There is a {draft.filename!r} in {draft.region} by now.")

    def _raise_if_refused(self, draft: DraftFile) -> None:
        if draft.error is not None:
            raise type(draft.error)(*draft.error.args)


def _is_image(draft: DraftFile) -> ReadOnly:
    return ReadOnly(f"{draft.filename!r} is an image already, and cannot be changed.")


def _telling(error: ImagefsError) -> ImagefsError:
    """*error* as one that every tool shows.

    Most other errno values of a copy make some tool read and write instead.
    """
    if isinstance(error, (RefusedQuota, Unreachable, Busy, Exists, NotSupported, StoreError)):
        return error
    return Refused(str(error))
