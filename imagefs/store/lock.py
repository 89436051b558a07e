"""One mount per cache directory, by flock(2) on the directory and on a file in it that says whose it is.

The lock on the directory holds even if somebody deletes the file; the one on the file is for file systems that cannot
lock directories.

Used when the directory is opened.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from imagefs.core.text import printable
from imagefs.errors import CacheInUse, CacheUnusable
from imagefs.store.files import open_file

_LOCK_NAME = "lock"
_MAX_OWNER_BYTES = 8192


def acquire_lock(root: int, path: Path, owner: str) -> int:
    """A descriptor that holds the lock of the directory *root* until it is closed or the process ends.

    *path* is the directory's path and *owner* the mount point, for the message that another process gets.

    Raises:
        CacheInUse: another process holds it; the message names it.
        CacheFull, CacheUnusable: the file cannot be used.

    """
    descriptor = open_file(root, _LOCK_NAME)
    try:
        _lock_directory(root)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, _MAX_OWNER_BYTES, 0)
        os.close(descriptor)
        raise CacheInUse(f"the cache directory {path} is in use by {_described(holder)}") from error
    except OSError as error:
        os.close(descriptor)
        raise CacheUnusable(f"the cache directory {path} cannot be locked: {error.strerror}") from error
    # On a full disk the lock holds all the same, and only the note for others is missing.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()} {owner}\n".encode("utf-8", "surrogateescape"), 0)
    return descriptor


def _lock_directory(root: int) -> None:
    try:
        fcntl.flock(root, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # this file system cannot (NFS: EBADF)


def _described(holder: bytes) -> str:
    """The holder's note as words for a person, safe to be shown on a terminal."""
    process, _, owner = holder.decode("utf-8", "replace").rstrip("\n").partition(" ")
    if not owner or not process.isdecimal():
        return "another mount"
    return f"the mount at {printable(owner)} (process {process})"
