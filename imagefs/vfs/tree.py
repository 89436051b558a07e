"""The tree of regions and images, as operations on inode numbers and handles. On trio's thread.

Used by the FUSE adapter alone. Every method raises only errors of :mod:`imagefs.errors`; what they mean to the
kernel is the adapter's business. No metadata method ever starts a transfer.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from imagefs.account import Account, Snapshot
from imagefs.core.models import ImageDetails, ListedImage, Phase
from imagefs.core.names import CONTROL_NAME, decode, from_os, to_os
from imagefs.errors import (
    Exists,
    IsDirectory,
    MalformedAnswer,
    NotDirectory,
    NotFound,
    NotPermitted,
    ReadOnly,
    Refused,
    ServiceError,
    TreeError,
)
from imagefs.vfs import xattrs
from imagefs.vfs.attributes import AttributeRules, Attributes, Ownership
from imagefs.vfs.control import ControlFiles
from imagefs.vfs.drafts import DraftFile, Drafts
from imagefs.vfs.files import Files, OpenedFile
from imagefs.vfs.nodes import Control, Draft, Image, InodeTable, Node, Region, Root

USAGE_PATIENCE_S: Final = 3.0
"""How long df waits for details that are still missing."""

USAGE_POLL_S: Final = 0.02

WRITING: Final = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One name in a directory.

    ``dot`` is set for ``.`` and ``..``, which the kernel does not count as looked up.
    """

    name: bytes
    node: Node
    dot: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What df shows: the sizes of all images as far as they are known, and their number."""

    used_bytes: int
    images: int


class Tree:
    """Names and attributes of one mounted account, and what changes them. Open files are :attr:`files`."""

    def __init__(
        self,
        account: Account,
        files: Files,
        drafts: Drafts,
        controls: ControlFiles,
        ownership: Ownership,
        *,
        names_ttl_s: float,
        wall_ns: Callable[[], int],
        forget_name: Callable[[int, bytes], None],
    ) -> None:
        """*forget_name* tells the kernel that a name in a directory (its inode number) is no longer true."""
        self.files = files
        self._account = account
        self._drafts = drafts
        self._controls = controls
        self._ownership = ownership
        self._rules = AttributeRules(ownership, names_ttl_s)
        self._wall_ns = wall_ns
        self._forget_name = forget_name
        self._inodes = InodeTable()
        self._moved: dict[str, str] = {}
        self._directories: dict[int, list[DirectoryEntry]] = {}
        self._handles = itertools.count(1)
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
        node = self._find(directory, name, snapshot)
        if node is None:
            raise NotFound(f"There is no {name!r} here.")
        return node

    def _find(self, directory: Root | Region, name: bytes, snapshot: Snapshot) -> Node | None:
        filename = from_os(name)
        if isinstance(directory, Root):
            region = snapshot.region_names.resolve(filename)
            return None if region is None else Region(region)
        if filename == CONTROL_NAME:
            return Control(directory.name)
        image_id = snapshot.names(directory.name).resolve(filename)
        if image_id is not None:
            return Image(image_id)
        draft = self._drafts.find(directory.name, filename)
        return None if draft is None else Draft(draft.number)

    def forget(self, inode: int, lookups: int) -> None:
        """The kernel drops *lookups* references."""
        node = self._inodes.get(inode)
        self._inodes.forget(inode, lookups)
        if self._inodes.get(inode) is None:
            if isinstance(node, Draft):
                self._drafts.forget(node.number)
            elif isinstance(node, Image):
                self._moved.pop(node.image_id, None)

    def _node(self, inode: int) -> Node:
        """What *inode* stands for by now: a settled draft is its image, and a moved image its replica."""
        node = self._inodes.get(inode)
        if node is None:
            raise NotFound(f"Inode {inode} is not known.")
        if isinstance(node, Image) and node.image_id in self._moved:
            snapshot = self._account.snapshot
            if snapshot is None or node.image_id not in snapshot.by_id:
                return Image(self._moved[node.image_id])
        return self._settled(node)

    def _settled(self, node: Node) -> Node:
        if isinstance(node, Draft):
            draft = self._drafts.get(node.number)
            if draft is not None and draft.image_id is not None:
                return Image(draft.image_id)
        return node

    def _draft(self, node: Draft) -> DraftFile:
        draft = self._drafts.get(node.number)
        if draft is None or not draft.is_open:
            raise NotFound("This file was never filled with an image, and is gone.")
        return draft

    def _directory(self, inode: int) -> Root | Region:
        node = self._node(inode)
        if not isinstance(node, (Root, Region)):
            raise NotDirectory("This is a file.")
        return node

    # Attributes

    async def attributes(self, inode: int) -> Attributes:
        """What stat(2) shows."""
        return await self._attributes(self._node(inode))

    async def _attributes(self, node: Node) -> Attributes:
        if isinstance(node, (Root, Region)):
            return self._rules.of_directory(node)
        if isinstance(node, Control):
            return self._rules.of_control(node, len(self._controls.text(node.region)))
        if isinstance(node, Draft):
            return self._rules.of_draft(node, self._draft(node))
        image_id = node.image_id
        image = (await self._account.images()).by_id.get(image_id)
        if image is None:
            return self._attributes_of_removed(image_id)
        try:
            details = await self._account.details(image_id)
        except (Refused, MalformedAnswer):
            return self._rules.of_image(image, None, self._account.local_mtime(image_id))
        return self._rules.of_image(image, details, self._account.local_mtime(image_id))

    def _attributes_of_removed(self, image_id: str) -> Attributes:
        """An image that is gone from the listing still has attributes while it is open."""
        opened = self.files.open_copy_of(image_id)
        if opened is None:
            raise NotFound(f"Image {image_id} is gone from the account.")
        image, key = opened
        details = ImageDetails(
            image_id, image.name, image.region, image.status, key.size_bytes, key.checksum, None
        )
        return self._rules.of_image(image, details, self._account.local_mtime(image_id), listed=False)

    async def set_attributes(self, inode: int, *, mode: int | None, mtime_ns: int | None) -> Attributes:
        """Keep *mtime_ns* on this machine; owner and mode are accepted and have no effect."""
        self._refuse_if_read_only()
        node = self._node(inode)
        if isinstance(node, Control) and mode is not None and mode & 0o111:
            raise NotPermitted("The control file is no program.")
        if mtime_ns is not None:
            if isinstance(node, Image):
                await self._account.set_mtime(node.image_id, mtime_ns)
            elif isinstance(node, Draft):
                self._draft(node).mtime_ns = mtime_ns
        return await self._attributes(node)

    async def truncate(self, inode: int, size_bytes: int) -> None:
        """Give a draft another size; raises ReadOnly for an image."""
        self._refuse_if_read_only()
        node = self._inodes.get(inode)
        if isinstance(node, Draft):
            draft = self._drafts.get(node.number)
            if draft is not None:
                await self._drafts.truncate(draft, size_bytes)
        elif not isinstance(node, Control):
            raise ReadOnly("Images cannot be changed, only replaced by others.")

    async def usage(self) -> Usage:
        """What the account's images take. Waits a little for sizes that are not known yet."""
        snapshot = await self._account.images()
        for region in snapshot.by_region:
            self._account.prefetch_details(region)
        with trio.move_on_after(USAGE_PATIENCE_S):
            while any(self._is_awaited(image) for image in snapshot.images):  # noqa: ASYNC110  # many events
                await trio.sleep(USAGE_POLL_S)
        known = (self._account.known_details(image.image_id) for image in snapshot.images)
        sizes = [details.size_bytes or 0 for details in known if details is not None]
        return Usage(sum(sizes), len(snapshot.images))

    def _is_awaited(self, image: ListedImage) -> bool:
        """Whether the image's size is still to come."""
        return (
            image.phase is Phase.ACTIVE
            and self._account.known_details(image.image_id) is None
            and self._account.error_of(image.image_id) is None
        )

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
            names = snapshot.names(directory.name)
            entries.append(DirectoryEntry(to_os(CONTROL_NAME), Control(directory.name)))
            entries += [
                DirectoryEntry(to_os(name), Image(image_id)) for name, image_id in names.listed.items()
            ]
            entries += [
                DirectoryEntry(to_os(draft.filename), Draft(draft.number))
                for draft in self._drafts.in_region(directory.name)
                if names.resolve(draft.filename) is None  # as in _find
            ]
        handle = next(self._handles)
        self._directories[handle] = entries
        return handle

    def entries(self, handle: int) -> Sequence[DirectoryEntry]:
        """What the handle lists; the position in it is a stable offset."""
        return self._directories[handle]

    def entry_attributes(self, node: Node) -> Attributes:
        """What is known of a listed node without asking anybody."""
        node = self._settled(node)
        if isinstance(node, (Root, Region)):
            return self._rules.of_directory(node)
        if isinstance(node, Control):
            return self._rules.of_control(node, len(self._controls.text(node.region)))
        if isinstance(node, Draft):
            return self._rules.of_draft(node, self._drafts.get(node.number))
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

    # Opening

    async def open(self, inode: int, flags: int) -> OpenedFile:
        """Open a file.

        Raises IsDirectory; for writing to an image Exists with O_TRUNC, else ReadOnly; and what
        :meth:`Files.open_image` raises.
        """
        node = self._node(inode)
        if isinstance(node, (Root, Region)):
            raise IsDirectory("This is a directory.")
        if flags & WRITING:
            self._refuse_if_read_only()
        if isinstance(node, Control):
            return self.files.open_control(node.region)
        if isinstance(node, Draft):
            draft = self._draft(node)
            if flags & os.O_TRUNC:
                await self._drafts.truncate(draft, 0)
            return self.files.open_draft(draft, writable=bool(flags & WRITING))
        if flags & os.O_TRUNC:
            raise Exists(f"Image {node.image_id} exists and cannot be overwritten.")
        if flags & WRITING:
            raise ReadOnly(f"Image {node.image_id} cannot be written to.")
        return await self.files.open_image(node.image_id, patient=bool(flags & os.O_NONBLOCK))

    async def create(self, parent: int, name: bytes) -> tuple[OpenedFile, Attributes]:
        """A new, empty file in a region. Raises Exists, NotPermitted in the root."""
        region = self._region(parent)
        if self._find(region, name, await self._account.images()) is not None:
            raise Exists(f"There is a {name!r} in {region.name} already.")
        draft = self._drafts.create(region.name, from_os(name), self._wall_ns())
        node = Draft(draft.number)
        self._inodes.remember(node)
        return self.files.open_draft(draft, writable=True), self._rules.of_draft(node, draft)

    def _region(self, inode: int) -> Region:
        """The region in which something is to be changed. Raises ReadOnly or NotPermitted."""
        self._refuse_if_read_only()
        directory = self._directory(inode)
        if isinstance(directory, Root):
            raise NotPermitted("Images belong into a region's directory.")
        return directory

    def _refuse_if_read_only(self) -> None:
        if self._ownership.read_only:
            raise ReadOnly("The account is mounted read-only.")

    # Changing the account

    async def rename(
        self, old_parent: int, old_name: bytes, new_parent: int, new_name: bytes, *, exchange: bool
    ) -> None:
        """image/rename within a region, a move between two. Raises Exists onto an image, NotPermitted."""
        old, new = self._region(old_parent), self._region(new_parent)
        snapshot = await self._account.images()
        source = self._settled(self._resolve(old, old_name, snapshot))
        target = self._find(new, new_name, snapshot)
        if exchange or isinstance(source, (Root, Region, Control)) or isinstance(target, Control):
            raise NotPermitted("This cannot be renamed.")
        if isinstance(target, Image):
            if target == source:
                return
            raise Exists(f"There is a {new_name!r} in {new.name} already, and images are never replaced.")
        if isinstance(target, Draft) and target != source:
            replaced = Exists(f"{new_name!r} was replaced.")
            if not await self._drafts.remove(self._draft(target), replaced):
                raise Exists(f"There is a {new_name!r} in {new.name} by now.")
        filename = from_os(new_name)
        if isinstance(source, Draft) and await self._drafts.rename(self._draft(source), new.name, filename):
            self._forget_name(old.inode, old_name)
            return
        source = self._settled(source)
        if not isinstance(source, Image):
            raise NotFound(f"{old_name!r} is gone.")
        name = decode(filename)
        if old == new:
            await self._account.rename(source.image_id, name)
        else:
            self._moved[source.image_id] = await self._account.move(source.image_id, new.name, name)
            self._forget_name(new.inode, new_name)  # the kernel takes it for the source
        self._forget_name(old.inode, old_name)

    async def unlink(self, parent: int, name: bytes) -> None:
        """image/delete. Raises NotPermitted for the control file, and what the service answers."""
        region = self._region(parent)
        node = self._settled(self._resolve(region, name, await self._account.images()))
        if isinstance(node, Draft):
            if await self._drafts.remove(self._draft(node), NotFound(f"{name!r} was removed.")):
                return
            node = self._settled(node)
        if isinstance(node, Image):
            await self._account.delete(node.image_id)
        else:
            raise NotPermitted("This cannot be removed.")

    async def link(self, inode: int, new_parent: int, new_name: bytes) -> Attributes:
        """A hard link into another region: a replica. Raises NotPermitted within one region, Exists."""
        region = self._region(new_parent)
        node = self._node(inode)
        snapshot = await self._account.images()
        image = snapshot.by_id.get(node.image_id) if isinstance(node, Image) else None
        if image is None or image.region == region.name:
            raise NotPermitted("Images can be linked into another region only.")
        if self._find(region, new_name, snapshot) is not None:
            raise Exists(f"There is a {new_name!r} in {region.name} already.")
        replica_id = await self._account.replicate(image.image_id, region.name, decode(from_os(new_name)))
        replica = Image(replica_id)
        attributes = await self._attributes(replica)
        self._inodes.remember(replica)
        return attributes

    def refusal_of_structure(self, parent: int) -> TreeError:
        """Why the directory *parent* takes no directories, symbolic links or special files."""
        self._directory(parent)
        if self._ownership.read_only:
            return ReadOnly("The account is mounted read-only.")
        return NotPermitted("Regions cannot be made or removed, and images are plain files.")

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
        if not isinstance(node, Image):
            return {}
        image_id = node.image_id
        image = (await self._account.images()).by_id.get(image_id)
        if image is None:
            raise NotFound(f"Image {image_id} is gone from the account.")
        try:
            details = await self._account.details(image_id)
        except ServiceError as failure:  # which attribute .error is there to tell
            details = None
            if self._account.error_of(image_id) is None:
                self._account.note_error(image_id, str(failure))
        key = details.content_key if details else None
        error = self._account.error_of(image_id) or (details.problem if details else None)
        return xattrs.of_image(
            image,
            details,
            cached_bytes=self.files.cached_bytes(key) if key else 0,
            error=error,
            location=self._account.location_of(image_id),
        )

    # What happens behind the mount's back

    def draft_vanished(self, draft: DraftFile) -> None:
        """The draft's name means something else now: an image, or nothing."""
        self._forget_name(Region(draft.region).inode, to_os(draft.filename))

    def _listing_changed(self, old: Snapshot, new: Snapshot) -> None:
        self.files.vanished(old.by_id.keys() - new.by_id.keys())
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
        self.files.vanished({new.image_id})
        snapshot = self._account.snapshot
        if snapshot is not None and new.image_id in snapshot.by_id:  # the kernel believes in the old size
            region = snapshot.by_id[new.image_id].region
            self._forget_name(Region(region).inode, to_os(snapshot.names(region).file_name_of(new.image_id)))


def _status(snapshot: Snapshot, image_id: str) -> str:
    return snapshot.by_id[image_id].status
