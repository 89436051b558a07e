"""Open files: images being read, drafts being filled, control files. On trio's thread.

A handle stands for one open(2). What a handle may do depends on its kind; everything else is refused here.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from imagefs.account import Account
from imagefs.content.library import Library
from imagefs.content.reader import Reader
from imagefs.core.models import ContentKey, ListedImage, Phase, require_active
from imagefs.errors import (
    ImageFailed,
    ImagefsError,
    ImagePending,
    ImageUnusable,
    NotSupported,
    Outdated,
    ReadOnly,
)
from imagefs.vfs.control import ControlFiles, ControlHandle
from imagefs.vfs.draft_file import DraftFile
from imagefs.vfs.drafts import Drafts
from imagefs.vfs.editions import Editions
from imagefs.vfs.fillers import Caller


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A handle, and how the kernel may cache the file: keep what it has, or (``direct``) nothing at all."""

    handle: int
    direct: bool = False


@dataclass(eq=False, slots=True)
class _OpenImage:
    image: ListedImage
    reader: Reader


@dataclass(eq=False, slots=True)
class _OpenDraft:
    draft: DraftFile
    writable: bool


@dataclass(eq=False, slots=True)
class _OpenPending:
    image_id: str


_OpenFile = _OpenImage | _OpenDraft | _OpenPending | ControlHandle


class Files:
    """All open files of one mount."""

    def __init__(self, account: Account, library: Library, drafts: Drafts, controls: ControlFiles) -> None:
        self._account = account
        self._library = library
        self._drafts = drafts
        self._controls = controls
        self._open: dict[int, _OpenFile] = {}
        self._handles = itertools.count(1)
        self.editions = Editions()

    # Opening and closing

    async def open_image(self, image_id: str, inode: int, *, patient: bool = False) -> OpenedFile:
        """Open an image for reading, which the kernel knows as *inode*.

        A pending image can be opened only where the opener is *patient* (O_NONBLOCK), as sync(1) is: not to read it,
        but to have fsync(2) wait until it is active.

        Raises ImagePending, ImageFailed, ImageUnusable, Outdated, and what the service's calls raise.
        """
        image = (await self._account.images()).by_id.get(image_id)
        if image is None:
            raise Outdated(f"Image {image_id} is gone from the account.")
        if patient and image.phase is Phase.PENDING:
            return OpenedFile(self._add(_OpenPending(image_id)), direct=True)
        key = await self._content_key(image)
        reader = await self._library.open(key, image_id)
        try:
            self.editions.opened(inode, reader)
        except Outdated:
            self._library.close(reader)
            raise
        return OpenedFile(self._add(_OpenImage(image, reader)))

    def open_draft(self, draft: DraftFile, *, writable: bool) -> OpenedFile:
        """One handle more on a draft. Closing one that is not *writable* decides nothing."""
        self._drafts.opened(draft)
        return OpenedFile(self._add(_OpenDraft(draft, writable)), direct=True)

    def open_control(self, region: str) -> OpenedFile:
        """Open a region's control file."""
        return OpenedFile(self._add(self._controls.open(region)), direct=True)

    def _add(self, file: _OpenFile) -> int:
        handle = next(self._handles)
        self._open[handle] = file
        return handle

    async def release(self, handle: int) -> None:
        """The last descriptor of the handle was closed."""
        file = self._open.pop(handle, None)
        if isinstance(file, _OpenImage):
            self.editions.closed(file.reader)
            self._library.close(file.reader)
        elif isinstance(file, _OpenDraft):
            await self._drafts.released(file.draft)

    async def _content_key(self, image: ListedImage) -> ContentKey:
        """What the image holds. What keeps it from being read, other than that it is pending, is noted of it."""
        try:
            return await self._checked_key(image)
        except (ImageFailed, ImageUnusable) as error:
            self._account.note_error(image.image_id, str(error))
            raise

    async def _checked_key(self, image: ListedImage) -> ContentKey:
        require_active(image)
        details = await self._account.details(image.image_id)
        # The details can be newer than the listing: those of an image that was withdrawn have a size of 0.
        require_active(details)
        key = details.content_key
        # A checksum that makes no sense is a garbled answer, by which nothing can be proved; none at all is an answer.
        if key is None or details.problem is not None:
            reason = details.problem or "the service gives no size"
            raise ImageUnusable(f"Image {image.image_id} cannot be read: {reason}.")
        return key

    # Reading

    def read_now(self, handle: int, offset: int, buffer: memoryview) -> memoryview | None:
        """As :meth:`imagefs.content.content.Content.read_now`; None for anything but an image."""
        file = self._open[handle]
        return file.reader.read_now(offset, buffer) if isinstance(file, _OpenImage) else None

    async def read(self, handle: int, offset: int, length: int) -> bytes | memoryview:
        """*length* bytes at *offset*, fewer only at the end."""
        file = self._open[handle]
        if isinstance(file, ControlHandle):
            return file.text[offset : offset + length]
        if isinstance(file, _OpenDraft):
            return await self._drafts.filling.read(file.draft, offset, length)
        if isinstance(file, _OpenPending):
            raise ImagePending(f"Image {file.image_id} was not ready yet when it was opened.")
        try:
            return await file.reader.read(offset, length)
        except ImagefsError as error:
            self._account.note_error(file.image.image_id, str(error))
            raise

    def open_copy_of(self, image_id: str) -> tuple[ListedImage, ContentKey] | None:
        """An image that is still open though it may be gone from the listing."""
        for file in self._open.values():
            if isinstance(file, _OpenImage) and file.image.image_id == image_id:
                return file.image, file.reader.content.key
        return None

    # Filling

    async def write(self, handle: int, offset: int, data: bytes, caller: Caller | None = None) -> int:
        """Write to a draft or a control file; returns how many bytes were taken."""
        file = self._open[handle]
        if isinstance(file, ControlHandle):
            await self._controls.write(file, data, caller)
            return len(data)
        if isinstance(file, _OpenDraft):
            return await self._drafts.filling.write(file.draft, offset, data, caller)
        raise ReadOnly("Images cannot be written to.")

    async def copy_range(
        self,
        source_handle: int,
        source_offset: int,
        target_handle: int,
        target_offset: int,
        length: int,
        caller: Caller | None = None,
    ) -> int:
        """copy_file_range(2) from an open image to a draft; returns how many bytes were taken.

        Raises NotSupported for any other pair of files: the kernel then reads and writes.
        """
        source, target = self._open[source_handle], self._open[target_handle]
        if not isinstance(source, _OpenImage) or not isinstance(target, _OpenDraft):
            raise NotSupported("Only images can be copied, and only to new files.")
        return await self._drafts.filling.copy(
            target.draft, source.reader.content.key, source_offset, target_offset, length, caller,
            source_id=source.image.image_id,
        )  # fmt: skip

    async def flush(self, handle: int, caller: Caller | None = None) -> None:
        """One descriptor of the handle is closed.

        Waits for the end of an upload: a program that moves a file into the mount removes it after that.
        """
        file = self._open[handle]
        if isinstance(file, ControlHandle):
            await self._controls.flush(file, caller)
        elif isinstance(file, _OpenDraft) and file.writable:
            await self._drafts.filling.flush(file.draft, caller)
            if file.draft.upload is not None:
                await file.draft.upload.wait()

    async def sync(self, handle: int) -> None:
        """Until what the handle stands for is an active image. Raises ImageFailed or NotFound."""
        file = self._open[handle]
        if isinstance(file, ControlHandle):
            await self._controls.flush(file)
            await self._controls.wait(file)
        elif isinstance(file, _OpenDraft):
            if file.writable:
                await self._drafts.filling.sync(file.draft)
            if file.draft.image_id is not None:
                await self._account.wait_active(file.draft.image_id)
        elif isinstance(file, _OpenPending):
            await self._account.wait_active(file.image_id)

    def cached_bytes(self, key: ContentKey) -> int:
        """How much of a content is in the cache."""
        return self._library.cached_bytes(key)

    # What happens behind the mount's back

    def moved(self, image_id: str, replica_id: str) -> None:
        """The image is about to go, as its replica was found right: its readers then get the replica's bytes."""
        self._library.moved(image_id, replica_id)

    def vanished(self, image_ids: set[str]) -> None:
        """These images are gone: their content may be that of others, but is not fetched from them any more."""
        self._library.vanished(image_ids)
