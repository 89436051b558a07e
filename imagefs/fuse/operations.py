"""What the kernel asks, handed to the tree. On trio's thread; each request is a task.

Each operation converts, awaits the tree and replies. :func:`answering` surrounds all of them but a read, which must be
quick.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

import pyfuse3

from imagefs.errors import InvalidArgument
from imagefs.fuse.answering import answering, answering_patiently, reply_for
from imagefs.fuse.callers import Caller
from imagefs.fuse.replies import FREE_BYTES, MAX_READ_BYTES, entry_of, file_info_of, statistics_of
from imagefs.fuse.requests import Requests
from imagefs.vfs.attributes import Attributes
from imagefs.vfs.steward import takes_long
from imagefs.vfs.tree import Tree


class Operations(pyfuse3.Operations):
    """The tree as pyfuse3 wants it."""

    enable_writeback_cache = False
    supports_dot_lookup = False

    def __init__(self, tree: Tree, requests: Requests | None = None, *, free_bytes: int = FREE_BYTES) -> None:
        super().__init__()
        self.requests = requests if requests is not None else Requests()
        self._tree = tree
        self._free_bytes = free_bytes
        # pyfuse3 sends a reply before the next request's handler runs, so one buffer serves all immediate reads.
        self._reply_buffer = memoryview(bytearray(MAX_READ_BYTES))

    # Names and attributes

    @answering
    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """lookup(2) of one name."""
        return self._entry(await self._tree.lookup(parent_inode, name))

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:
        """The kernel drops references; must not raise."""
        for inode, lookups in inode_list:
            self._tree.forget(inode, lookups)

    def unneeded(self) -> Sequence[int]:
        """The inodes that the kernel is to forget: see :mod:`imagefs.fuse.pruning`."""
        return self._tree.unneeded()

    @answering
    async def getattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        """stat(2)."""
        return self._entry(await self._tree.attributes(inode))

    @answering
    async def setattr(
        self,
        inode: pyfuse3.InodeT,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: pyfuse3.FileHandleT | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """chmod(2), chown(2), utimensat(2), truncate(2)."""
        if fields.update_size:
            await self._tree.truncate(inode, attr.st_size, self.requests.caller())
        return self._entry(
            await self._tree.set_attributes(
                inode,
                mode=attr.st_mode if fields.update_mode else None,
                mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            )
        )

    @answering
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """statvfs(3)."""
        return statistics_of(await self._tree.usage(), self._free_bytes)

    # Directories

    @answering
    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:
        """opendir(3)."""
        return pyfuse3.FileHandleT(await self._tree.open_directory(inode))

    @answering
    async def readdir(self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        """readdir(3), as READDIRPLUS: each entry carries the attributes as far as they are known."""
        entries = await self._tree.entries(fh, anew=start_id == 0)
        for position in range(start_id, len(entries)):
            entry = entries[position]
            node, attributes = self._tree.listed(entry.node)
            name = pyfuse3.FileNameT(entry.name)
            if not pyfuse3.readdir_reply(token, name, self._entry(attributes), position + 1):
                return
            if not entry.dot:
                self._tree.remember(node)

    @answering
    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:
        """closedir(3)."""
        self._tree.close_directory(fh)

    # Files

    @answering
    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        """open(2)."""
        return file_info_of(await self._tree.open(inode, flags, Caller(ctx.pid).programs))

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """pread(2): at once where nothing has to be waited for."""
        try:
            part: bytes | memoryview | None = None
            if size <= MAX_READ_BYTES:
                part = self._tree.files.read_now(fh, off, self._reply_buffer[:size])
            if part is None:
                with self.requests.interruptible(reading=True):
                    part = await self._tree.files.read(fh, off, size)
        except Exception as error:
            raise reply_for("read", error) from error
        return part  # type: ignore[return-value]  # any buffer will do

    @answering
    async def copy_file_range(  # noqa: PLR0913, PLR0917  # as libfuse has them
        self,
        inode_in: int,
        offset_in: int,
        fh_in: int,
        inode_out: int,
        offset_out: int,
        fh_out: int,
        length: int,
        flags: int,
        caller: Caller | None,
    ) -> int:
        """copy_file_range(2); comes by way of :class:`Requests`. Returns how many bytes were copied."""
        if flags:
            raise InvalidArgument("copy_file_range(2) has no flags.")
        return await self._tree.files.copy_range(fh_in, offset_in, fh_out, offset_out, length, caller)

    @answering_patiently
    async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
        """fsync(2): waits until a new image is active. Loop devices send it for what is only read, too."""
        await self._tree.files.sync(fh)

    @answering
    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """The last close(2)."""
        await self._tree.files.release(fh)

    # Extended attributes

    async def getxattr(
        self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext
    ) -> bytes:
        """getxattr(2)."""
        if takes_long(name):
            return await self._getxattr_patiently(inode, name, ctx)
        return await self._getxattr(inode, name, ctx)

    @answering
    async def _getxattr(
        self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext
    ) -> bytes:
        return await self._tree.xattr(inode, name, for_owner=_is_owner(ctx))

    @answering_patiently
    async def _getxattr_patiently(
        self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext
    ) -> bytes:
        return await self._tree.xattr(inode, name, for_owner=_is_owner(ctx))

    @answering
    async def listxattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> Sequence[pyfuse3.XAttrNameT]:
        """listxattr(2)."""
        return [pyfuse3.XAttrNameT(name) for name in await self._tree.xattr_names(inode)]

    @answering
    async def setxattr(
        self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, value: bytes, ctx: pyfuse3.RequestContext
    ) -> None:
        """setxattr(2). ENOSYS would be remembered by the kernel for the whole mount."""
        await self._tree.set_xattr(inode, name)

    @answering
    async def removexattr(
        self, inode: pyfuse3.InodeT, name: pyfuse3.XAttrNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        """removexattr(2)."""
        await self._tree.remove_xattr(inode, name)

    # Changes

    @answering
    async def create(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        """open(2) with O_CREAT of a name that is not there."""
        opened, attributes = await self._tree.changes.create(
            parent_inode, name, exclusive=bool(flags & os.O_EXCL), caller=self.requests.caller()
        )
        return file_info_of(opened), self._entry(attributes)

    @answering
    async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
        """pwrite(2)."""
        return await self._tree.files.write(fh, off, buf, self.requests.caller())

    @answering_patiently
    async def flush(self, fh: pyfuse3.FileHandleT) -> None:
        """close(2) of one descriptor. An upload takes as long as it takes."""
        await self._tree.files.flush(fh, self.requests.caller())

    @answering
    async def unlink(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        """unlink(2)."""
        await self._tree.changes.unlink(parent_inode, name)

    @answering
    async def rename(
        self,
        parent_inode_old: pyfuse3.InodeT,
        name_old: pyfuse3.FileNameT,
        parent_inode_new: pyfuse3.InodeT,
        name_new: pyfuse3.FileNameT,
        flags: pyfuse3.FlagT,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        """rename(2)."""
        exchange = bool(flags & pyfuse3.RENAME_EXCHANGE)
        if flags & ~(pyfuse3.RENAME_EXCHANGE | pyfuse3.RENAME_NOREPLACE):
            raise InvalidArgument(f"renameat2(2) with flags {flags:#x} is not known.")
        await self._tree.changes.rename(
            parent_inode_old, name_old, parent_inode_new, name_new, exchange=exchange
        )

    @answering
    async def link(
        self,
        inode: pyfuse3.InodeT,
        new_parent_inode: pyfuse3.InodeT,
        new_name: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """link(2)."""
        return self._entry(await self._tree.changes.link(inode, new_parent_inode, new_name))

    @answering
    async def mkdir(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """mkdir(2)."""
        raise self._tree.changes.refusal_of_structure(parent_inode)

    @answering
    async def rmdir(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> None:
        """rmdir(2)."""
        raise self._tree.changes.refusal_of_structure(parent_inode)

    @answering
    async def symlink(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        target: pyfuse3.FileNameT,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """symlink(2)."""
        raise self._tree.changes.refusal_of_structure(parent_inode)

    @answering
    async def mknod(
        self,
        parent_inode: pyfuse3.InodeT,
        name: pyfuse3.FileNameT,
        mode: pyfuse3.ModeT,
        rdev: int,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        """mknod(2): tar makes a file in this way to set extended attributes before it opens it."""
        if stat.S_ISREG(mode):
            return self._entry(await self._tree.changes.make(parent_inode, name))
        raise self._tree.changes.refusal_of_structure(parent_inode)

    def _entry(self, attributes: Attributes) -> pyfuse3.EntryAttributes:
        return entry_of(attributes, has_addition=self.requests.has_addition)


def _is_owner(ctx: pyfuse3.RequestContext) -> bool:
    """Whether the caller is who mounted, or root."""
    return ctx.uid in (0, os.getuid())
