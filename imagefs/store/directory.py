"""The cache directory: who owns it, the contents in it, and what is evicted when.

Opened once by the mount, after it went into the background (a lock and an open index do not survive a fork);
used from worker threads. On disk::

    lock                        held while a mount uses the directory; says which
    index, index-wal            what is here (SQLite)
    index.damaged-N             an index that could not be trusted, kept to be looked at
    content/XX/NAME             one sparse file per content; XX are two digits of the hash in NAME
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagefs.core.models import ContentKey
from imagefs.errors import CacheFull, StoreError
from imagefs.store.content_file import StoredContent
from imagefs.store.data_file import DataFile, punches_holes
from imagefs.store.files import open_root, open_subdirectory
from imagefs.store.index import ContentRecord, Index
from imagefs.store.layout import content_name, content_path
from imagefs.store.lock import acquire_lock
from imagefs.store.recovery import open_index, reconcile
from imagefs.store.space import CacheUsage, Space

_log = logging.getLogger(__name__)

MAX_CONTENT_BYTES: Final = 4 << 40
"""The largest content that is cached; beyond, the bookkeeping in memory would be out of proportion."""


@dataclass(slots=True)
class _OpenContent:
    stored: StoredContent
    references: int = 0


class CacheDirectory:
    """The cache directory of one mount.

    Attributes:
        index: what is remembered beside contents: listing, details, local times.
        problems: sentences for the log about what was found wrong when the directory was opened.

    """

    def __init__(
        self,
        root: int,
        lock: int,
        index: Index,
        problems: list[str],
        *,
        max_bytes: int,
        min_free_bytes: int,
        clock: Callable[[], int],
    ) -> None:
        """Take over the open descriptors *root* and *lock*; use `open` instead."""
        self.index = index
        self.problems = problems
        self._root = root
        self._held_lock = lock
        self._clock = clock
        self._contents = open_subdirectory(root, "content")
        self._frees_parts = punches_holes(lock)
        self._lock = threading.Lock()
        self._open: dict[str, _OpenContent] = {}
        self._space = Space(max_bytes, min_free_bytes, self._free_bytes, self._evict)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        owner: str,
        max_bytes: int,
        min_free_bytes: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> CacheDirectory:
        """Open or create the cache directory *path* for the mount at *owner*, and make files and index agree.

        Up to *max_bytes* of content are kept, and *min_free_bytes* of the disk left free. *clock* gives
        nanoseconds since the epoch, for what was used when.

        Raises:
            CacheInUse: another process has it.
            CacheUnusable: it cannot be made, is not ours, or was made by a newer version.
            CacheFull: there is no space for its index.

        """
        root = open_root(path)
        try:
            lock = acquire_lock(root, path, owner)
        except BaseException:
            os.close(root)
            raise
        try:
            index, problems = open_index(root, path)
            directory = cls(
                root, lock, index, problems, max_bytes=max_bytes, min_free_bytes=min_free_bytes, clock=clock
            )
        except BaseException:
            os.close(lock)
            os.close(root)
            raise
        try:
            for name, cached_bytes in reconcile(directory._contents, index, problems).items():
                directory._space.set_cached(name, cached_bytes)
        except BaseException:
            directory.close()
            raise
        return directory

    def content(self, key: ContentKey) -> StoredContent:
        """The content of *key*, to be closed by the caller; the same object while it is open elsewhere.

        Raises:
            CacheFull: no space for an empty file, or the content is too large for any cache.
            CacheUnusable: its file or the index cannot be used.
            ValueError: *key* is malformed.

        """
        name = content_name(key)
        if key.size_bytes > MAX_CONTENT_BYTES:
            raise CacheFull(f"a content of {key.size_bytes} bytes is too large for the cache")
        with self._lock:
            opened = self._open.get(name)
            if opened is None:
                opened = self._open[name] = _OpenContent(self._load(name, key))
            opened.references += 1
            return opened.stored

    def _load(self, name: str, key: ContentKey) -> StoredContent:
        record = self.index.load_content(name)
        folder, file_name = content_path(name)
        parent = open_subdirectory(self._contents, folder)
        try:
            file = DataFile(parent, file_name, key.size_bytes)
        finally:
            os.close(parent)
        try:
            if record is not None and file.is_fresh:
                self.index.forget_content(name)
                record = None
            return StoredContent(
                record or ContentRecord(name, key, verified=False),
                [] if record is None else self.index.load_segments(name),
                file,
                self.index,
                self._space,
                self._clock,
                self._close_content,
                is_saved=record is not None,
            )
        except BaseException:
            file.close()
            raise

    def _close_content(self, stored: StoredContent) -> None:
        """Take back one reference; the last one settles the content and closes it."""
        settled = False
        while True:
            with self._lock:
                opened = self._open[stored.name]
                if opened.references > 1 or (settled and not stored.has_changes):
                    opened.references -= 1
                    if not opened.references:
                        del self._open[stored.name]
                        stored.close_file()
                    return
            stored.settle()
            settled = True

    def cached_bytes(self, key: ContentKey) -> int:
        """How many bytes of the content of *key* are in the cache."""
        return self._space.cached_bytes(content_name(key))

    def usage(self) -> CacheUsage:
        """What the cache holds, and what is free on its disk."""
        return self._space.usage()

    def make_room(self, wanted_bytes: int) -> int:
        """Evict what is least recently used until *wanted_bytes* more fit: how many bytes were freed.

        Writing does so by itself. Contents that are not open go first, then of open ones what is not hot. It may
        free less than wanted, and failures of the disk meanwhile are logged.
        """
        return self._space.make_room(wanted_bytes)

    def _evict(self, wanted_bytes: int) -> int:
        try:
            freed = self._evict_idle(wanted_bytes)
            return freed + self._evict_open(wanted_bytes - freed)
        except StoreError as error:
            _log.warning("the cache could not be made smaller: %s", error)
            return 0

    def _evict_idle(self, wanted_bytes: int) -> int:
        """Evict from contents that are not open, in the order of their segments' last use."""
        with self._lock:
            skipped = set(self._open)
        victims = self.index.least_recently_used(skipped, wanted_bytes)
        freed = 0
        for name in dict.fromkeys(name for name, _ in victims):
            record = self.index.load_content(name)
            if record is None:
                continue
            stored = self.content(record.key)
            try:
                if self._frees_parts:
                    freed += stored.evict([number for victim, number in victims if victim == name])
                else:
                    freed += stored.evict_whole()
            finally:
                stored.close()
            if freed >= wanted_bytes:
                break
        return freed

    def _evict_open(self, wanted_bytes: int) -> int:
        """Evict from open contents, in the order of their segments' last use."""
        if wanted_bytes <= 0 or not self._frees_parts:
            return 0
        with self._lock:
            open_contents = [opened.stored for opened in self._open.values()]
        candidates = sorted(
            (used_ns, place, number, held_bytes)
            for place, stored in enumerate(open_contents)
            for used_ns, number, held_bytes in stored.evictable()
        )
        victims: dict[int, list[int]] = {}
        expected = 0
        for _, place, number, held_bytes in candidates:
            if expected >= wanted_bytes:
                break
            victims.setdefault(place, []).append(number)
            expected += held_bytes
        return sum(open_contents[place].evict(numbers) for place, numbers in victims.items())

    def _free_bytes(self) -> int:
        """The free space of the disk that we may use (fstatvfs(3))."""
        status = os.fstatvfs(self._root)
        return status.f_bavail * status.f_frsize

    def close(self) -> None:
        """Settle and close all contents, the index, and let go of the directory."""
        with self._lock:
            still_open = list(self._open.values())
            self._open.clear()
        for opened in still_open:
            opened.stored.settle()
            opened.stored.close_file()
        try:
            self.index.close()
        finally:
            for descriptor in (self._contents, self._root, self._held_lock):
                os.close(descriptor)
