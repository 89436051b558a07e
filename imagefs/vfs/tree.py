"""The tree of regions and images, as operations on inode numbers and handles. On trio's thread.

Used by the FUSE adapter alone. Every method raises only errors of :mod:`imagefs.errors`; what they mean to the
kernel is the adapter's business. No metadata method ever starts a transfer.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

from imagefs.account import Account, Snapshot
from imagefs.core.models import ImageDetails
from imagefs.errors import Exists, IsDirectory, NotPermitted, NotSupported, ReadOnly, Unwelcome
from imagefs.vfs import xattrs
from imagefs.vfs.attributes import AttributeRules, Attributes, Ownership
from imagefs.vfs.changes import Changes
from imagefs.vfs.control import ControlFiles
from imagefs.vfs.directories import Directories, DirectoryEntry
from imagefs.vfs.drafts import Drafts
from imagefs.vfs.files import Files, OpenedFile
from imagefs.vfs.fillers import Caller
from imagefs.vfs.indexers import INDEXERS, indexer_among
from imagefs.vfs.metadata import Metadata
from imagefs.vfs.nodes import Control, Draft, Image, Node, Region, Root
from imagefs.vfs.resolution import Resolution
from imagefs.vfs.steward import Steward
from imagefs.vfs.usage import Usage, usage_of

WRITING: Final = os.O_WRONLY | os.O_RDWR

FIRST_CONTROL_NUMBER: Final = 2**50
"""Inode numbers from here up to 2**60 live only as long as a mount (:mod:`imagefs.core.inodes`)."""

LOOKUP_PATIENCE_S: Final = 1.0
"""How long a lookup waits for the image's details: up to libfuse 3.16 the kernel looks up one name of a directory at a
time. Whoever wants more than the name then asks for the attributes, which holds up nobody else."""


class Tree:
    """One mounted account. Open files are :attr:`files`; what changes its directories is :attr:`changes`.

    *indexers* are the programs that are kept from the content of images. *numbers_apart*: the kernel may be given
    another number for a file than stat(2) shows.
    """

    def __init__(  # noqa: PLR0913  # what a tree is made of
        self,
        account: Account,
        files: Files,
        drafts: Drafts,
        controls: ControlFiles,
        ownership: Ownership,
        steward: Steward,
        *,
        wall_ns: Callable[[], int],
        numbers_apart: bool,
        indexers: Collection[str] = INDEXERS,
    ) -> None:
        self._indexers = indexers
        rules = AttributeRules(ownership)
        self.files = files
        self._account = account
        self._drafts = drafts
        self._steward = steward
        self._control_numbers = (
            itertools.count(FIRST_CONTROL_NUMBER) if numbers_apart else itertools.repeat(0)
        )
        self._editions = files.editions
        self._resolution = Resolution(account, drafts, self._editions)
        self._metadata = Metadata(account, files, drafts, controls, self._resolution, rules)
        self._directories = Directories(drafts)
        self.changes = Changes(
            account,
            files,
            drafts,
            self._resolution,
            self._metadata,
            rules,
            self._editions,
            wall_ns,
        )
        account.subscribe(
            on_change=self._listing_changed, on_details_change=self._details_changed, on_moved=files.moved
        )

    # Names

    async def lookup(self, parent: int, name: bytes) -> Attributes:
        """The attributes of *name* in the directory *parent*; the kernel now knows its node once more.

        A control file is another inode at each lookup: the kernel lets one program at a time write to a file, so that
        each would wait for all requests before its own, and no signal ends that wait.

        Raises NotFound, NotDirectory, NameTooLong, NameNotUtf8, and what the service's calls raise.
        """
        directory = self._resolution.directory(parent)
        node = self._resolution.resolve(directory, name, await self._account.images())
        if isinstance(node, Control):
            node = replace(node, number=next(self._control_numbers))
        attributes = await self._metadata.attributes(node, LOOKUP_PATIENCE_S)
        if isinstance(node, Image):
            node, attributes = self._editions.named(node.image_id, attributes)
        self._resolution.remember(node)
        return attributes

    def remember(self, node: Node) -> None:
        """The kernel was given *node* in a listing."""
        self._resolution.remember(node)

    def forget(self, inode: int, lookups: int) -> None:
        """The kernel drops *lookups* references."""
        self._resolution.forget(inode, lookups)

    def unneeded(self) -> Sequence[int]:
        """The inodes that the kernel knows though no name leads to them any more, and that nobody has open."""
        return self._resolution.unneeded()

    # Attributes

    async def attributes(self, inode: int) -> Attributes:
        """What stat(2) shows."""
        patience_s = 0.0 if self._editions.has_size(inode) else math.inf
        attributes = await self._metadata.attributes(self._resolution.node(inode), patience_s)
        return self._editions.told(inode, attributes)

    def listed(self, node: Node) -> tuple[Node, Attributes]:
        """A listed node as the kernel is to know it, and what is known of it without asking anybody."""
        node = self._resolution.settled(node)
        attributes = self._metadata.known_attributes(node)
        return (
            self._editions.named(node.image_id, attributes) if isinstance(node, Image) else (node, attributes)
        )

    async def set_attributes(self, inode: int, *, mode: int | None, mtime_ns: int | None) -> Attributes:
        """Keep *mtime_ns* on this machine; owner and mode are accepted and have no effect."""
        self.changes.refuse_if_read_only()
        node = self._resolution.node(inode)
        if isinstance(node, Control) and mode is not None and mode & 0o111:
            raise NotPermitted("The control file is no program.")
        if mtime_ns is not None:
            if isinstance(node, Image):
                await self._account.set_mtime(node.image_id, mtime_ns)
            elif isinstance(node, Draft):
                self._resolution.draft(node).mtime_ns = mtime_ns
        return await self.attributes(inode)

    async def truncate(self, inode: int, size_bytes: int, caller: Caller | None = None) -> None:
        """Give a draft another size; raises ReadOnly for an image."""
        self.changes.refuse_if_read_only()
        node = self._resolution.looked_up(inode)
        if isinstance(node, Draft):
            draft = self._drafts.get(node.number)
            if draft is not None:
                await self._drafts.filling.truncate(draft, size_bytes, caller)
        elif not isinstance(node, Control):
            raise ReadOnly("Images cannot be changed, only replaced by others.")

    async def xattr_names(self, inode: int) -> list[bytes]:
        """The names of a node's extended attributes."""
        return list(await self._metadata.xattrs(self._resolution.node(inode)))

    async def xattr(self, inode: int, name: bytes, *, for_owner: bool = False) -> bytes:
        """One extended attribute's value; those that are not listed are *for_owner* alone. Raises NoAttribute."""
        node = self._resolution.node(inode)
        if not name.startswith(xattrs.PREFIX):
            raise xattrs.no_attribute(name)
        value = await self._steward.get(node, name) if for_owner else None
        if value is not None:
            return value
        values = await self._metadata.xattrs(node)
        if name not in values:
            raise xattrs.no_attribute(name)
        return values[name]

    async def set_xattr(self, inode: int, name: bytes) -> None:
        """Accept, without effect, the attributes that a program copies along with an image, as with its mode.

        Raises NotSupported for all others: what is to be done with an image is asked for by reading, see the steward.
        """
        copied = name.startswith(xattrs.PREFIX) and not name.startswith(xattrs.ACTIONS)
        if copied and isinstance(self._resolution.node(inode), Image | Draft):
            return
        raise NotSupported(f"The extended attribute {name!r} of inode {inode} cannot be set.")

    async def remove_xattr(self, inode: int, name: bytes) -> None:
        """Raises NotSupported."""
        raise NotSupported(f"The extended attribute {name!r} of inode {inode} cannot be removed.")

    async def usage(self) -> Usage:
        """What the account's images take. Waits a little for sizes that are not known yet."""
        return await usage_of(self._account)

    # Directories

    async def open_directory(self, inode: int) -> int:
        """A handle on a directory. Raises NotDirectory."""
        return self._directories.open(self._resolution.directory(inode))

    async def entries(self, handle: int, *, anew: bool) -> Sequence[DirectoryEntry]:
        """What the handle lists; the position in it is a stable offset until it is listed *anew* (rewinddir(3))."""
        return self._directories.entries(handle, await self._account.images(), anew=anew)

    def close_directory(self, handle: int) -> None:
        """The handle is done."""
        self._directories.close(handle)

    # Opening

    async def open(self, inode: int, flags: int, programs: Iterable[str] = ()) -> OpenedFile:
        """Open a file for the first of *programs*, each of which was started by the next.

        Raises IsDirectory; for writing to an image Exists with O_TRUNC, else ReadOnly; Unwelcome for an image where one
        of *programs* is an indexer; and what :meth:`Files.open_image` raises.
        """
        node = self._resolution.node(inode)
        if isinstance(node, (Root, Region)):
            raise IsDirectory("This is a directory.")
        if flags & WRITING:
            self.changes.refuse_if_read_only()
        if isinstance(node, Control):
            return self.files.open_control(node.region)
        if isinstance(node, Draft):
            draft = self._resolution.draft(node)
            if flags & os.O_TRUNC:
                await self._drafts.filling.truncate(draft, 0)
            return self.files.open_draft(draft, writable=bool(flags & WRITING))
        if flags & os.O_TRUNC:
            raise Exists(f"Image {node.image_id} exists and cannot be overwritten.")
        if flags & WRITING:
            raise ReadOnly(f"Image {node.image_id} cannot be written to.")
        indexer = indexer_among(programs, self._indexers)
        if indexer is not None:
            raise Unwelcome(f"Image {node.image_id} is not read by {indexer}, unless with --allow-indexers.")
        return await self.files.open_image(node.image_id, inode, patient=bool(flags & os.O_NONBLOCK))

    # What happens behind the mount's back

    def _listing_changed(self, old: Snapshot, new: Snapshot) -> None:
        missing = old.by_id.keys() - new.by_id.keys()
        gone = {image_id for image_id in missing if not self._account.is_going(image_id)}
        self.files.vanished(gone)
        self._resolution.vanished(gone)

    def _details_changed(self, old: ImageDetails, new: ImageDetails) -> None:
        """The image may have other content now: nobody may fetch the old content from it any more."""
        if old.content_key != new.content_key:
            self.files.vanished({new.image_id})
