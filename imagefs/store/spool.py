"""Bytes that a program writes, until it is known which content they are.

Made by `CacheDirectory.spool`; used by the tree in worker threads. The file has no name, so nothing is left of it
whatever happens to the process. Its bytes count as cached.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from contextlib import suppress
from typing import Final

from imagefs.core.extents import ExtentSet
from imagefs.errors import CacheUnusable
from imagefs.store.files import store_errors
from imagefs.store.space import Space

_CHUNK_BYTES: Final = 1 << 20


class Spool:
    """A sparse file that is written in any order. Its MD5 is taken as it is written, where that is in order.

    Every method may be called from any thread, one at a time.
    """

    def __init__(self, parent: int, space: Space) -> None:
        """Make the file in the directory *parent*. Raises CacheFull or CacheUnusable."""
        with store_errors("making a file for what is written failed"):
            self._descriptor = _open_unnamed(parent)
        self.size_bytes = 0
        self._name = f"spool {secrets.token_hex(8)}"
        self._space = space
        self._lock = threading.Lock()
        self._written = ExtentSet()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hashed_to = 0
        self._closing = False

    @property
    def written_bytes(self) -> int:
        """How many different bytes were written; the others read as zeros."""
        return self._written.total_bytes

    def write(self, offset: int, data: bytes) -> None:
        """Write *data* at *offset*. Raises CacheFull or CacheUnusable; nothing of it counts as written then."""
        end = offset + len(data)
        with self._lock:
            if offset < self._hashed_to:  # a write that fails may have changed something, too
                self._start_over()
            new_bytes = sum(stop - start for start, stop in self._written.gaps(offset, end))
            self._space.reserve(self._name, new_bytes)
            try:
                with store_errors("keeping what was written failed"):
                    self._write_all(offset, data)
            except BaseException:
                self._space.release(self._name, new_bytes)
                with suppress(OSError):  # what is behind the end reads as zeros, should the file grow
                    os.ftruncate(self._descriptor, self.size_bytes)
                raise
            self._written.add(offset, end)
            self.size_bytes = max(self.size_bytes, end)
            if offset == self._hashed_to:
                self._md5.update(data)
                self._hashed_to = end

    def _write_all(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view = view[written:]
            offset += written

    def truncate(self, size_bytes: int) -> None:
        """Make the content *size_bytes* long. Raises CacheFull or CacheUnusable."""
        with self._lock:
            with store_errors("changing the size of what was written failed"):
                os.ftruncate(self._descriptor, size_bytes)
            if size_bytes < self.size_bytes:
                before = self._written.total_bytes
                self._written.remove(size_bytes, self.size_bytes)
                self._space.release(self._name, before - self._written.total_bytes)
            self.size_bytes = size_bytes
            if size_bytes < self._hashed_to:
                self._start_over()

    def read(self, offset: int, length: int) -> bytes:
        """Up to *length* bytes at *offset*, fewer at the end. Raises CacheUnusable."""
        with store_errors("reading what was written failed"):
            return os.pread(self._descriptor, length, offset)

    def md5(self) -> str:
        """The MD5 of the whole, in lower-case hex. Raises CacheUnusable, also where the file is closed meanwhile."""
        with self._lock, store_errors("reading what was written failed"):
            while self._hashed_to < self.size_bytes:
                if self._closing:
                    raise CacheUnusable("what was written is given up")
                chunk = os.pread(self._descriptor, _CHUNK_BYTES, self._hashed_to)
                self._md5.update(chunk)
                self._hashed_to += len(chunk)
            return self._md5.hexdigest()

    def _start_over(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hashed_to = 0

    def close(self) -> None:
        """Give the file and its space back; once. Whoever takes the MD5 is not waited for."""
        self._closing = True
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1  # a late call fails, and meets no other file
            self._space.set_cached(self._name, 0)
            with suppress(OSError):  # it is closed all the same (close(2)), and its bytes are not needed
                os.close(descriptor)


def _open_unnamed(parent: int) -> int:
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=parent)
    except OSError:
        name = f"spool-{secrets.token_hex(16)}"  # where the file system has no O_TMPFILE
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        os.unlink(name, dir_fd=parent)
        return descriptor
