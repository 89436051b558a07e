"""What the tree answers, as pyfuse3 takes it. Pure; used by ``operations``."""

from __future__ import annotations

from typing import Final

import pyfuse3

from imagefs.vfs.attributes import Attributes
from imagefs.vfs.files import OpenedFile
from imagefs.vfs.usage import Usage

MAX_READ_BYTES: Final = 1 << 20
"""The largest read the kernel sends (256 pages, FUSE_MAX_MAX_PAGES in its fs/fuse/fuse_i.h)."""

BLOCK_SIZE_BYTES: Final = 4096
FREE_BYTES: Final = 1 << 50
"""What df shows as free: more than any file manager wants to see before it copies."""


def entry_of(attributes: Attributes, *, has_addition: bool) -> pyfuse3.EntryAttributes:
    """An answer to stat(2) or a lookup. *has_addition*: the C addition can give the kernel another inode number."""
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = pyfuse3.InodeT(attributes.inode)
    if attributes.edition:
        if has_addition:
            entry.generation = attributes.edition  # which interpose.c makes the kernel's number
        else:
            entry.st_ino = pyfuse3.InodeT(attributes.edition)
    entry.st_mode = pyfuse3.ModeT(attributes.mode)
    entry.st_nlink = attributes.links
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_size = attributes.size_bytes
    entry.st_blocks = attributes.sectors
    entry.st_blksize = MAX_READ_BYTES
    entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = attributes.mtime_ns
    entry.attr_timeout = attributes.ttl_s
    entry.entry_timeout = attributes.entry_ttl_s
    return entry


def statistics_of(usage: Usage, free_bytes: int) -> pyfuse3.StatvfsData:
    """An answer to statvfs(3): *free_bytes* are free beside what is used."""
    used = -(-usage.used_bytes // BLOCK_SIZE_BYTES)
    free = free_bytes // BLOCK_SIZE_BYTES
    data = pyfuse3.StatvfsData()
    data.f_bsize = data.f_frsize = BLOCK_SIZE_BYTES
    data.f_blocks = used + free
    data.f_bfree = data.f_bavail = free
    data.f_files = usage.images + free
    data.f_ffree = data.f_favail = free
    data.f_namemax = 255
    return data


def file_info_of(opened: OpenedFile) -> pyfuse3.FileInfo:
    """An answer to open(2)."""
    return pyfuse3.FileInfo(
        fh=pyfuse3.FileHandleT(opened.handle), keep_cache=not opened.direct, direct_io=opened.direct
    )
