"""The tree of regions and images, as operations on inode numbers and handles. On trio's thread.

Used by the FUSE adapter alone. Every method raises only errors of :mod:`imagefs.errors`; what they mean to the
kernel is the adapter's business. No metadata method ever starts a transfer.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from imagefs.account import Account, Snapshot
from imagefs.content.library import Library
from imagefs.content.reader import Reader
from imagefs.core.models import ContentKey, ImageDetails, ListedImage, Phase
from imagefs.core.names import from_os, to_os
from imagefs.errors import (
    Exists,
    ImageFailed,
    ImagePending,
    ImageUnusable,
    IsDirectory,
    MalformedAnswer,
    NotDirectory,
    NotFound,
    NotPermitted,
    NotSupported,
    ReadOnly,
    Refused,
    ServiceError,
    TreeError,
)
from imagefs.vfs import xattrs
from imagefs.vfs.attributes import AttributeRules, Attributes, Ownership
from imagefs.vfs.nodes import Image, InodeTable, Node, Region, Root

USAGE_PATIENCE_S: Final = 3.0
"""How long df waits for details that are still missing."""


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One name in a directory.

    ``dot`` is set for ``.`` and ``..``, which the kernel does not count as looked up.
    """

    name: bytes
    node: Node
    dot: bool = False


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A handle, and whether the kernel may keep what it has cached of the file."""

    handle: int
    keep_cache: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """What df shows: the sizes of all images as far as they are known, and their number."""

    used_bytes: int
    images: int


@dataclass(slots=True)
class _OpenImage:
    image: ListedImage
    reader: Reader


class Tree:
    """Names, attributes and content of one mounted account."""

    def __init__(
        self,
        account: Account,
        library: Library,
        ownership: Ownership,
        *,
        names_ttl_s: float,
        forget_name: Callable[[int, bytes], None],
    ) -> None:
        """*forget_name* tells the kernel that a name in a directory (its inode number) is no longer true."""
        self._account = account
        self._library = library
        self._ownership = ownership
        self._rules = AttributeRules(ownership, names_ttl_s)
        self._forget_name = forget_name
        self._inodes = InodeTable()
        self._files: dict[int, _OpenImage] = {}
        self._directories: dict[int, list[DirectoryEntry]] = {}
        self._handles = itertools.count(1)
        self._last_opened: dict[str, ContentKey] = {}
        account.subscribe(on_change=self._listing_changed, on_details_change=self._details_changed)

    # Names

    async def lookup(self, parent: int, name: bytes) -> Attributes:
        """The attributes of *name* in the directory *parent*; the kernel now knows its node once more.

        Raises NotFound, NotDirectory, NameTooLong, NameNotUtf8, and what the service's calls raise.
        """
        node = self._resolve(self._directory(parent), name, await self._account.images())
        attributes = await self._attributes(node)
        self._inodes.remember(node)
        return attributes

    def _resolve(self, directory: Root | Region, name: bytes, snapshot: Snapshot) -> Node:
        filename = from_os(name)
        if isinstance(directory, Root):
            region = snapshot.region_names.resolve(filename)
            if region is not None:
                return Region(region)
        else:
            image_id = snapshot.names(directory.name).resolve(filename)
            if image_id is not None:
                return Image(image_id)
        raise NotFound(f"There is no {filename!r} here.")

    def forget(self, inode: int, lookups: int) -> None:
        """The kernel drops *lookups* references."""
        self._inodes.forget(inode, lookups)

    def _node(self, inode: int) -> Node:
        node = self._inodes.get(inode)
        if node is None:
            raise NotFound(f"Inode {inode} is not known.")
        return node

    def _directory(self, inode: int) -> Root | Region:
        node = self._node(inode)
        if isinstance(node, Image):
            raise NotDirectory(f"Image {node.image_id} is a file.")
        return node

    def _image(self, inode: int) -> Image:
        node = self._node(inode)
        if not isinstance(node, Image):
            raise IsDirectory("This is a directory.")
        return node

    # Attributes

    async def attributes(self, inode: int) -> Attributes:
        """What stat(2) shows."""
        return await self._attributes(self._node(inode))

    async def _attributes(self, node: Node) -> Attributes:
        if not isinstance(node, Image):
            return self._rules.of_directory(node)
        image_id = node.image_id
        image = (await self._account.images()).by_id.get(image_id)
        if image is None:
            return self._attributes_of_removed(image_id)
        try:
            details = await self._account.details(image_id)
        except (Refused, MalformedAnswer) as error:
            self._account.note_error(image_id, str(error))
            return self._rules.of_image(image, None, self._account.local_mtime(image_id))
        return self._rules.of_image(image, details, self._account.local_mtime(image_id))

    def _attributes_of_removed(self, image_id: str) -> Attributes:
        """An image that is gone from the listing still has attributes while it is open."""
        for file in self._files.values():
            if file.image.image_id == image_id:
                key = file.reader.content.key
                image = file.image
                details = ImageDetails(
                    image_id, image.name, image.region, image.status, key.size_bytes, key.checksum, None
                )
                return self._rules.of_image(image, details, self._account.local_mtime(image_id), listed=False)
        raise NotFound(f"Image {image_id} is gone from the account.")

    async def set_times(self, inode: int, mtime_ns: int | None) -> Attributes:
        """Keep *mtime_ns* on this machine; owner and mode are accepted and have no effect."""
        node = self._node(inode)
        if self._ownership.read_only:
            raise ReadOnly("The account is mounted read-only.")
        if isinstance(node, Image) and mtime_ns is not None:
            await self._account.set_mtime(node.image_id, mtime_ns)
        return await self._attributes(node)

    async def usage(self) -> Usage:
        """What the account's images take. Waits a little for sizes that are not known yet."""
        snapshot = await self._account.images()
        with trio.move_on_after(USAGE_PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for image in snapshot.images:
                    if self._account.known_details(image.image_id) is None:
                        nursery.start_soon(self._try_details, image.image_id)
        known = (self._account.known_details(image.image_id) for image in snapshot.images)
        sizes = [details.size_bytes or 0 for details in known if details is not None]
        return Usage(sum(sizes), len(snapshot.images))

    async def _try_details(self, image_id: str) -> None:
        with suppress(ServiceError):  # what is not known does not count
            await self._account.details(image_id)

    # Directories

    async def open_directory(self, inode: int) -> int:
        """A handle on the entries as they are now."""
        directory = self._directory(inode)
        snapshot = await self._account.images()
        entries = [DirectoryEntry(b".", directory, dot=True), DirectoryEntry(b"..", Root(), dot=True)]
        if isinstance(directory, Root):
            listed = snapshot.region_names.listed.items()
            entries += [DirectoryEntry(to_os(name), Region(region)) for name, region in listed]
        else:
            images = snapshot.names(directory.name).listed.items()
            entries += [DirectoryEntry(to_os(name), Image(image_id)) for name, image_id in images]
        handle = next(self._handles)
        self._directories[handle] = entries
        return handle

    def entries(self, handle: int) -> Sequence[DirectoryEntry]:
        """What the handle lists; the position in it is a stable offset."""
        return self._directories[handle]

    def entry_attributes(self, node: Node) -> Attributes:
        """What is known of a listed node without asking anybody."""
        if not isinstance(node, Image):
            return self._rules.of_directory(node)
        snapshot = self._account.snapshot
        image = snapshot.by_id.get(node.image_id) if snapshot else None
        if image is None:
            image = ListedImage(node.image_id, "", "", "gone")
        details = self._account.known_details(node.image_id)
        return self._rules.of_image(image, details, self._account.local_mtime(node.image_id))

    def remember(self, node: Node) -> None:
        """The kernel was given *node* in a listing."""
        self._inodes.remember(node)

    def close_directory(self, handle: int) -> None:
        """The handle is done."""
        self._directories.pop(handle, None)

    # Files

    async def open(self, inode: int, flags: int) -> OpenedFile:
        """Open an image for reading.

        Raises Exists for O_TRUNC and ReadOnly for any other way of writing; ImagePending, ImageFailed,
        ImageUnusable; and what the service's calls raise.
        """
        image_id = self._image(inode).image_id
        if flags & os.O_TRUNC:
            raise Exists(f"Image {image_id} exists and cannot be overwritten.")
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise ReadOnly(f"Image {image_id} cannot be written to.")
        image = (await self._account.images()).by_id.get(image_id)
        if image is None:
            raise NotFound(f"Image {image_id} is gone from the account.")
        key = await self._content_key(image)
        reader = await self._library.open(key, image_id)
        handle = next(self._handles)
        self._files[handle] = _OpenImage(image, reader)
        keep_cache = reader.content.keepable and self._last_opened.get(image_id) == key
        self._last_opened[image_id] = key
        return OpenedFile(handle, keep_cache)

    async def _content_key(self, image: ListedImage) -> ContentKey:
        if image.phase is Phase.FAILED:
            raise self._noted(image, ImageFailed(f"Image {image.image_id} has failed ({image.status})."))
        if image.phase is Phase.PENDING:
            raise ImagePending(f"Image {image.image_id} is not ready yet ({image.status or 'no status'}).")
        details = await self._account.details(image.image_id)
        key = details.content_key
        if key is None:
            reason = details.problem or "the service gives no size"
            raise self._noted(image, ImageUnusable(f"Image {image.image_id} cannot be read: {reason}."))
        return key

    def _noted(self, image: ListedImage, error: Exception) -> Exception:
        self._account.note_error(image.image_id, str(error))
        return error

    def read_now(self, handle: int, offset: int, buffer: memoryview) -> memoryview | None:
        """As :meth:`imagefs.content.content.Content.read_now`."""
        return self._files[handle].reader.read_now(offset, buffer)

    async def read(self, handle: int, offset: int, length: int) -> bytes | memoryview:
        """*length* bytes at *offset*, fewer only at the end of the image."""
        file = self._files[handle]
        try:
            return await file.reader.read(offset, length)
        except Exception as error:
            self._account.note_error(file.image.image_id, str(error))
            raise

    async def copy_range(
        self, source_handle: int, source_offset: int, target_handle: int, target_offset: int, length: int
    ) -> int:
        """Copy up to *length* bytes between open files, and return how many. Raises NotSupported."""
        raise NotSupported("Nothing can be copied into this mount.")

    def release(self, handle: int) -> None:
        """The last descriptor of the handle was closed."""
        file = self._files.pop(handle, None)
        if file is None:
            return
        if not file.reader.content.keepable:  # what the kernel has cached could be wrong still
            self._last_opened.pop(file.image.image_id, None)
        self._library.close(file.reader)

    # Extended attributes

    async def xattr_names(self, inode: int) -> list[bytes]:
        """The names of a node's extended attributes."""
        return list(await self._xattrs(self._node(inode)))

    async def xattr(self, inode: int, name: bytes) -> bytes:
        """One extended attribute's value; raises NoAttribute."""
        node = self._node(inode)
        if not name.startswith(xattrs.PREFIX):
            raise xattrs.no_attribute(name)
        values = await self._xattrs(node)
        if name not in values:
            raise xattrs.no_attribute(name)
        return values[name]

    async def _xattrs(self, node: Node) -> dict[bytes, bytes]:
        if isinstance(node, Root):
            return xattrs.of_root(os.getpid())
        if isinstance(node, Region):
            return {}
        image_id = node.image_id
        image = (await self._account.images()).by_id.get(image_id)
        if image is None:
            raise NotFound(f"Image {image_id} is gone from the account.")
        try:
            details = await self._account.details(image_id)
        except ServiceError as error:  # which attribute .error is there to tell
            if self._account.error_of(image_id) is None:
                self._account.note_error(image_id, str(error))
            details = None
        key = details.content_key if details else None
        cached_bytes = self._library.cached_bytes(key) if key else 0
        error_text = self._account.error_of(image_id)
        if error_text is None and details is not None:
            error_text = details.problem
        return xattrs.of_image(image, details, cached_bytes, error_text)

    # Changes come later; until then each is refused here

    def refusal_of_change(self, parent: int) -> TreeError:
        """Why nothing is created, renamed or removed in the directory *parent*."""
        self._directory(parent)
        return ReadOnly("Images cannot be changed through this mount.")

    def refusal_of_structure(self, parent: int) -> TreeError:
        """Why the directory *parent* takes no directories, links or special files."""
        self._directory(parent)
        if self._ownership.read_only:
            return ReadOnly("The account is mounted read-only.")
        return NotPermitted("Regions cannot be made or removed, and images cannot be linked.")

    def refuse_truncation(self, inode: int) -> None:
        """Raises the refusal of truncate(2)."""
        raise ReadOnly(f"Image {self._image(inode).image_id} cannot be written to.")

    # What happens behind the mount's back

    def _listing_changed(self, old: Snapshot, new: Snapshot) -> None:
        gone = old.by_id.keys() - new.by_id.keys()
        self._library.vanished(gone)
        for image_id in gone:
            self._last_opened.pop(image_id, None)
        for region in old.regions:
            before, after = old.names(region).listed, new.names(region).listed
            if before is after:
                continue
            for name, image_id in before.items():
                if after.get(name) != image_id or _status(old, image_id) != _status(new, image_id):
                    self._forget_name(Region(region).inode, to_os(name))

    def _details_changed(self, old: ImageDetails, new: ImageDetails) -> None:
        """The image has other content now: nobody may fetch the old content from it any more."""
        if old.content_key == new.content_key:
            return
        self._library.vanished([new.image_id])
        snapshot = self._account.snapshot
        if snapshot is not None and new.image_id in snapshot.by_id:  # the kernel believes in the old size
            region = snapshot.by_id[new.image_id].region
            self._forget_name(Region(region).inode, to_os(snapshot.names(region).file_name_of(new.image_id)))


def _status(snapshot: Snapshot, image_id: str) -> str:
    return snapshot.by_id[image_id].status
