"""Opening files and directories that only we can have made.

Everything below the cache directory is opened relative to a descriptor of its checked parent and never
through a link, so that nobody can make the cache write to or delete a file elsewhere. Used when the cache and
its contents are opened; any thread.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imagefs.errors import CacheFull, CacheUnusable, StoreError

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ATTEMPTS: Final = 3
_SECTOR_BYTES: Final = 512
"""The unit of st_blocks (inode(7))."""


def store_error(error: OSError, subject: str) -> StoreError:
    """*error* in the store's terms: `CacheFull` where space, quota or a size limit is the cause."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return CacheFull(f"{subject}: {error.strerror}")
    return CacheUnusable(f"{subject}: {error.strerror}")


@contextmanager
def store_errors(subject: str) -> Iterator[None]:
    """Raise any `OSError` of the block as `store_error` does."""
    try:
        yield
    except OSError as error:
        raise store_error(error, subject) from error


def open_root(path: Path) -> int:
    """A descriptor of the cache directory itself, made if needed, private to us.

    Raises:
        CacheUnusable: it is a link, not a directory, another user's, or cannot be made or opened.

    """
    try:
        _make_durably(path.absolute())
        descriptor = os.open(path, _DIRECTORY_FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST):
            raise CacheUnusable(f"the cache directory {path} is not a directory of its own") from error
        raise CacheUnusable(f"the cache directory {path} cannot be opened: {error.strerror}") from error
    return _made_private(descriptor, f"the cache directory {path}")


def _make_durably(path: Path) -> None:
    """Make the directory *path* and those above it that are missing, each with its name on the disk for good.

    The last name is synced in any case: whoever made it may have been killed before that.
    """
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory_at(directory.parent)


def sync_directory_at(path: Path) -> None:
    """As `sync_directory`. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return  # another user's directory, which we may traverse but not read
    try:
        sync_directory(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(descriptor: int) -> None:
    """Have the names in the directory *descriptor* on the disk for good, as far as its file system can do that.

    Raises:
        OSError: the disk fails. EINVAL only means that there is no such thing for directories (fsync(2)).

    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def open_subdirectory(parent: int, name: str) -> int:
    """A descriptor of the directory *name* in *parent*, made if needed in place of whatever has its name.

    Raises:
        CacheFull, CacheUnusable: it cannot be made or opened, or is another user's.

    """
    for _ in range(_ATTEMPTS):
        try:
            return _made_private(os.open(name, _DIRECTORY_FLAGS, dir_fd=parent), f"the cache's {name}")
        except FileNotFoundError:
            _attempt_mkdir(parent, name)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise store_error(error, f"the cache's {name} cannot be opened") from error
            remove_file(parent, name)
    raise CacheUnusable(f"the cache's {name} cannot be made a directory")


@contextmanager
def subdirectory(parent: int, name: str) -> Iterator[int]:
    """As `open_subdirectory`, closed when the block ends."""
    descriptor = open_subdirectory(parent, name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(parent: int, name: str) -> int:
    """A descriptor of our own regular file *name* in *parent*, open for reading and writing, mode 0600.

    It is created empty where there is none. A link, a file with another name elsewhere, or anything else that
    we did not make is unlinked, which leaves what it points to alone, and the file started anew.

    Raises:
        CacheFull, CacheUnusable: it cannot be created or opened.

    """
    for _ in range(_ATTEMPTS):
        remove_if_planted(parent, name)  # without opening it, as opening a device may have effects
        try:
            descriptor = os.open(name, _FILE_FLAGS, 0o600, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise store_error(error, f"the cache file {name} cannot be opened") from error
        else:
            if _is_made_private(descriptor, name):
                return descriptor
            os.close(descriptor)
        remove_file(parent, name)
    raise CacheUnusable(f"the cache file {name} is replaced by something else again and again")


def _is_made_private(descriptor: int, name: str) -> bool:
    """Whether *descriptor* is of a file of our own, whose mode is 0600 by now; it is closed where that fails."""
    try:
        status = os.fstat(descriptor)
        is_own = is_own_file(status)
        is_private = stat.S_IMODE(status.st_mode) == 0o600
        if is_own and not is_private:  # a full disk may refuse even what changes nothing
            os.fchmod(descriptor, 0o600)
    except OSError as error:
        os.close(descriptor)
        raise store_error(error, f"the cache file {name} cannot be made private") from error
    return is_own


def is_own_file(status: os.stat_result) -> bool:
    """Whether *status* is of a regular file that is ours and has no other name."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1


def allocated_bytes(status: os.stat_result) -> int:
    """How much a file takes on disk, which is less than its size where it has holes."""
    return status.st_blocks * _SECTOR_BYTES


def remove_file(parent: int, name: str) -> None:
    """Unlink *name* in *parent*, if it is there; a link goes, what it points to stays.

    Raises:
        CacheUnusable: it cannot be removed, or is a directory.

    """
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CacheUnusable(f"the cache file {name} cannot be removed: {error.strerror}") from error


def remove_if_planted(parent: int, name: str) -> bool:
    """Remove *name* in *parent* if it is there and not our own regular file; whether it was removed."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if is_own_file(status):
        return False
    remove_file(parent, name)
    return True


def _attempt_mkdir(parent: int, name: str) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        sync_directory(parent)
    except FileExistsError:
        pass  # made by someone else in between; the next attempt looks at it
    except OSError as error:
        raise store_error(error, f"the cache's {name} cannot be made") from error


def _made_private(descriptor: int, subject: str) -> int:
    """*descriptor* of a directory, after access by others was taken away; closed if it is not ours."""
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid():
        os.close(descriptor)
        raise CacheUnusable(f"{subject} belongs to another user")
    try:
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(descriptor, 0o700)
    except OSError as error:
        os.close(descriptor)
        raise store_error(error, f"{subject} cannot be made private") from error
    return descriptor
