"""One sparse file and its system calls, with errors in the store's terms.

Used by `StoredContent`; any thread.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from contextlib import ExitStack, suppress
from typing import Final

from imagefs.store.files import open_file, store_errors, sync_directory

_PUNCH_HOLE: Final = 0x02 | 0x01
"""FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, fallocate(2)."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_FALLOCATE: Final = getattr(_LIBC, "fallocate64", _LIBC.fallocate)
_FALLOCATE.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def punch_hole(descriptor: int, start: int, end: int) -> None:
    """Give the space of [start, end) back to the file system; it reads as zeros then (fallocate(2)).

    Raises:
        OSError: among others EOPNOTSUPP where the file system cannot do it.

    """
    if _FALLOCATE(descriptor, _PUNCH_HOLE, start, end - start) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def punches_holes(descriptor: int) -> bool:
    """Whether the file system of the small file *descriptor* can punch holes; tried far behind its end."""
    try:
        punch_hole(descriptor, 1 << 30, (1 << 30) + 4096)
    except OSError:
        return False
    return True


class DataFile:
    """An open sparse file of a fixed size. Every method raises `CacheFull` or `CacheUnusable`, nothing else.

    ``is_fresh`` tells that there was no file of that size before, so that nothing is in it.
    """

    def __init__(self, parent: int, name: str, size_bytes: int) -> None:
        """Open or create *name* in the directory *parent*, *size_bytes* long without using space."""
        self._name = name
        self._writing = threading.Lock()
        self.size_bytes = size_bytes
        with ExitStack() as descriptors, store_errors(f"making the cache file {name} failed"):
            self._parent = os.dup(parent)
            descriptors.callback(os.close, self._parent)
            self._descriptor = open_file(self._parent, name)
            descriptors.callback(os.close, self._descriptor)
            found_bytes = os.fstat(self._descriptor).st_size
            self.is_fresh = found_bytes != size_bytes or not found_bytes
            if self.is_fresh:
                self._empty()
            self._descriptors = descriptors.pop_all()

    def write(self, data: memoryview, offset: int) -> None:
        """Write all of *data* at *offset*.

        One thread at a time, as in the kernel, which has the others wait by spinning.
        """
        with self._writing, store_errors(f"writing the cache file {self._name} failed"):
            while data:
                written = os.pwrite(self._descriptor, data, offset)
                data = data[written:]
                offset += written

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill *buffer* from *offset*: how many bytes; fewer than asked only at the end of the file."""
        with store_errors(f"reading the cache file {self._name} failed"):
            return os.preadv(self._descriptor, [buffer], offset)

    def read_now_into(self, offset: int, buffer: memoryview) -> bool:
        """Fill *buffer* out of the page cache; False where that blocks or fails (preadv2(2))."""
        try:
            return os.preadv(self._descriptor, [buffer], offset, os.RWF_NOWAIT) == len(buffer)
        except OSError:
            return False  # EAGAIN, or not supported: the caller reads in a thread, and sees any error there

    def will_need(self, offset: int, length: int) -> None:
        """Start to bring *length* bytes at *offset* into the page cache, as far as the kernel wants to."""
        with suppress(OSError):
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_WILLNEED)

    def sync(self) -> None:
        """Make what was written, and the file's size, durable (fdatasync(2))."""
        with store_errors(f"making the cache file {self._name} durable failed"):
            os.fdatasync(self._descriptor)

    def sync_entry(self) -> None:
        """Make the file's entry in its directory durable (fsync(2), notes on directories)."""
        with store_errors(f"making the cache file {self._name} durable failed"):
            sync_directory(self._parent)

    def free(self, start: int, end: int) -> None:
        """Give the space of [start, end) back; of less than the whole file only where the file system can."""
        with store_errors(f"freeing space of the cache file {self._name} failed"):
            if (start, end) == (0, self.size_bytes):
                self._empty()
                return
            try:
                punch_hole(self._descriptor, start, end)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise

    def remove(self) -> None:
        """Unlink the file; it stays readable until closed."""
        with store_errors(f"removing the cache file {self._name} failed"):
            os.unlink(self._name, dir_fd=self._parent)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._descriptor == -1

    def close(self) -> None:
        """Close the file; what is not synced may be lost if the power fails."""
        self._descriptor = self._parent = -1  # first: a late call fails, and reaches no other file
        with store_errors(f"closing the cache file {self._name} failed"):
            self._descriptors.close()

    def _empty(self) -> None:
        """Give all space back; the size stays."""
        os.ftruncate(self._descriptor, 0)
        os.ftruncate(self._descriptor, self.size_bytes)
