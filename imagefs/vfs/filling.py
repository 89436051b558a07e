"""What is put into drafts: ranges of images, and bytes. On trio's thread; spools are written in worker threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

from imagefs.account import Account
from imagefs.core.extents import ExtentSet
from imagefs.core.models import ContentKey
from imagefs.errors import ImagePending, NotSupported, ReadOnly, ServiceError
from imagefs.vfs.draft_file import DraftFile, SpoolFile
from imagefs.vfs.fillers import Caller
from imagefs.vfs.matching import Matching
from imagefs.vfs.settling import Settling

PREPARING_BYTES: Final = 64 << 10
"""A file that was given a size and less than this of its content is still being prepared: ``qemu-img`` flushes it
so before it writes."""

MATCHING_S: Final = 60.0
"""How long to look for an image that has what was written; details that are missing are asked for."""


class Filling:
    """Fills drafts, and settles each as soon as it is known which image it is."""

    def __init__(
        self,
        account: Account,
        settling: Settling,
        new_spool: Callable[[], SpoolFile],
        disk_threads: trio.CapacityLimiter,
    ) -> None:
        self._account = account
        self._settling = settling
        self._matching = Matching(account)
        self._new_spool = new_spool
        self._disk_threads = disk_threads

    # Copying ranges

    async def copy(
        self,
        draft: DraftFile,
        key: ContentKey,
        source_offset: int,
        offset: int,
        length: int,
        caller: Caller | None = None,
        *,
        source_id: str = "",
    ) -> int:
        """Take *length* bytes at *source_offset* of the content *key* as the draft's from *offset* on.

        Returns how many were taken: fewer at the content's end. Pieces may come in any order and more than once. The
        last one that was missing has an image with that content replicated: that with *source_id*, which was opened, or
        another if that has other content by then.

        Raises NotSupported where this is not a copy of a whole image of another region, or what the service answered.
        """
        length = min(length, max(0, key.size_bytes - source_offset))
        async with draft.busy:
            await draft.settled()
            draft.raise_if_refused()
            if draft.image_id is not None:
                if draft.key != key or source_offset != offset:
                    raise _is_image(draft)
                return length
            if source_offset != offset or draft.spool is not None:
                raise NotSupported("Only whole images can be copied.")
            with trio.fail_after(MATCHING_S):
                replica_of = await self._matching.looked_for_elsewhere(draft.region, key, source_id)
            if replica_of is None:
                error = NotSupported(
                    f"What is copied is in no region but {draft.region}, and the service cannot copy it there."
                )
                await self._settling.refuse(draft, error)
                raise error
            draft.fillers.note(caller)
            extents = draft.copied.setdefault(key, ExtentSet())
            extents.add(offset, offset + length)
            draft.size_bytes = max(draft.size_bytes, offset + length)
            if extents.covers(0, key.size_bytes):
                await self._settling.replicate(draft, replica_of, key)
            return length

    # Writing bytes

    async def write(self, draft: DraftFile, offset: int, data: bytes, caller: Caller | None = None) -> int:
        """Write *data* at *offset*; the write that completes an image's content has it replicated.

        Where some image elsewhere is larger, the bytes may be only its beginning, and :meth:`flush` decides.

        Raises NotSupported for content that no image of another region has, what the service answered, or StoreError.
        """
        async with draft.busy:
            await draft.settled()
            draft.raise_if_refused()
            if draft.image_id is not None:
                await self._compare(draft, offset, data)
                return len(data)
            if draft.copied:
                await self._refuse_content(draft)
            draft.fillers.note(caller)
            spool = await self._spool(draft)
            await trio.to_thread.run_sync(spool.write, offset, data, limiter=self._disk_threads)
            draft.size_bytes = spool.size_bytes
            is_whole = spool.written_bytes == spool.size_bytes
            if is_whole and spool.size_bytes == await self._matching.largest_elsewhere(draft.region):
                await self._settle_if_known(draft, spool)
            return len(data)

    async def truncate(self, draft: DraftFile, size_bytes: int, caller: Caller | None = None) -> None:
        """Give the draft another size. Raises as :meth:`write`; ReadOnly for another size than that of its image."""
        async with draft.busy:
            await draft.settled()
            draft.raise_if_refused()
            if draft.image_id is not None or draft.copied:
                if size_bytes != draft.size_bytes:
                    raise _is_image(draft)
                return
            if size_bytes != draft.size_bytes:
                draft.fillers.note(caller)
                spool = await self._spool(draft)
                await trio.to_thread.run_sync(spool.truncate, size_bytes, limiter=self._disk_threads)
                draft.size_bytes = spool.size_bytes

    async def read(self, draft: DraftFile, offset: int, length: int) -> bytes:
        """What was written so far. Raises ImagePending where that is not here, as ranges of an image were copied."""
        async with draft.busy:
            await draft.settled()
            draft.raise_if_refused()
            if draft.spool is None:
                if draft.is_empty:
                    return b""
                raise ImagePending(f"{draft.filename!r} can be read once it is an active image.")
            return await trio.to_thread.run_sync(draft.spool.read, offset, length, limiter=self._disk_threads)

    async def flush(self, draft: DraftFile, caller: Caller | None = None) -> None:
        """A descriptor is closed: content that no image has is uploaded or refused now, unless there is none yet.

        Only the close of one who fills the draft counts, and that of its creator, who also hears that it is empty.

        Raises as :meth:`write`.
        """
        async with draft.busy:
            await draft.settled()
            draft.raise_if_refused()
            is_complete = draft.creator is not None and draft.creator.may_include(caller)
            if is_complete and draft.image_id is None and draft.is_empty:
                raise NotSupported(f"{draft.filename!r} is empty, and no image can be.")
            if draft.fillers.may_include(caller):
                await self._decide(draft, is_complete)

    async def sync(self, draft: DraftFile) -> None:
        """What was written shall be safe: decides as :meth:`flush` does, unless all can be uploaded at the end."""
        if self._settling.publisher is not None:
            return
        async with draft.busy:
            await draft.settled()
            draft.raise_if_refused()
            await self._decide(draft, is_complete=False)

    async def _decide(self, draft: DraftFile, is_complete: bool) -> None:
        """Make of *draft* what its content is, unless there is none yet, or it is only prepared for what is to come."""
        if draft.image_id is not None or draft.is_empty:
            return
        spool = draft.spool
        if spool is None:
            await self._refuse_content(draft)
            return
        is_decided = (
            await self._settle_if_known(draft, spool)
            or (not is_complete and await self._is_prepared(spool))
            or await self._settle_if_new(draft, spool)
        )
        if not is_decided:
            await self._upload(draft, spool)

    async def let_go(self, draft: DraftFile) -> None:
        """Nobody has the draft open any more, nor comes back to it: what was prepared is all there will be.

        To be called with ``draft.busy``. Raises as :meth:`write`.
        """
        if draft.is_open and draft.spool is not None and not draft.is_empty:
            await self._upload(draft, draft.spool)

    async def _is_prepared(self, spool: SpoolFile) -> bool:
        """Whether a program has only prepared the file so far, and opens it again."""
        if spool.written_bytes <= PREPARING_BYTES < spool.size_bytes:
            return True
        publisher = self._settling.publisher
        return publisher is not None and await publisher.is_blank(spool)

    async def _upload(self, draft: DraftFile, spool: SpoolFile) -> None:
        if self._settling.publisher is None:
            await self._refuse_content(draft)
        else:
            await self._settling.upload(draft, self._settling.publisher, spool)

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
        """Replicate the image that has just these bytes, if there is one.

        Taking the MD5 of what was not written in order takes as long as reading it. A signal ends that wait.
        """
        size_bytes = spool.size_bytes
        with trio.fail_after(MATCHING_S):
            sizes_bytes = await self._matching.sizes_elsewhere(draft.region, anew=True)
        if size_bytes not in sizes_bytes:
            return False
        md5 = await trio.to_thread.run_sync(spool.md5, abandon_on_cancel=True, limiter=self._disk_threads)
        key = ContentKey(size_bytes, md5)
        image = self._matching.elsewhere(draft.region, key)
        if image is None:
            return False
        await self._settling.replicate(draft, image, key)
        return True

    async def _settle_if_new(self, draft: DraftFile, spool: SpoolFile) -> bool:
        """The same, where the listing is older than the image."""
        before = self._account.snapshot
        with suppress(ServiceError):
            await self._account.refresh()
        return self._account.snapshot is not before and await self._settle_if_known(draft, spool)

    async def _refuse_content(self, draft: DraftFile) -> None:
        error = NotSupported(
            f"No image of another region has the content of {draft.name!r}; to upload it, mount with --publish URL."
        )
        await self._settling.refuse(draft, error)
        raise error


def _is_image(draft: DraftFile) -> ReadOnly:
    return ReadOnly(f"{draft.filename!r} is an image already, and cannot be changed.")
