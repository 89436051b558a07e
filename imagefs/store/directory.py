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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imagefs.core.models import ContentKey
from imagefs.errors import CacheFull, StoreError
from imagefs.store.block_map import BlockMap
from imagefs.store.blocks import block_count, segment_blocks
from imagefs.store.content_file import StoredContent
from imagefs.store.data_file import DataFile, punches_holes
from imagefs.store.files import open_root, open_subdirectory, store_errors
from imagefs.store.index import ContentRecord, Index
from imagefs.store.layout import content_name, content_path
from imagefs.store.lock import acquire_lock
from imagefs.store.recovery import open_index, reconcile
from imagefs.store.space import CacheUsage, Limits, Space
from imagefs.store.spool import Spool

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
        resources: ExitStack,
        contents: int,
        index: Index,
        problems: list[str],
        limits: Limits,
        clock: Callable[[], int],
        cached: Mapping[str, int],
        *,
        frees_parts: bool,
    ) -> None:
        """Take over what `open` opened: *resources* closes it all, *contents* is where the content files are.

        *frees_parts* tells whether the file system can free a part of a file, *cached* how many bytes each
        content has.
        """
        self.index = index
        self.problems = problems
        self._resources = resources
        self._contents = contents
        self._clock = clock
        self._frees_parts = frees_parts
        self._lock = threading.Lock()
        self._open: dict[str, _OpenContent] = {}
        self._space = Space(limits, self._free_bytes, self._evict, cached)

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
        with store_errors(f"the cache directory {path} cannot be used"), ExitStack() as resources:
            root = open_root(path)
            resources.callback(os.close, root)
            lock = acquire_lock(root, path, owner)
            resources.callback(os.close, lock)
            index, problems = open_index(root, path)
            resources.callback(index.close)
            contents = open_subdirectory(root, "content")
            resources.callback(os.close, contents)
            cached = reconcile(contents, index, problems)
            limits = Limits(max_bytes, min_free_bytes)
            frees_parts = punches_holes(lock)
            taken = resources.pop_all()
            return cls(taken, contents, index, problems, limits, clock, cached, frees_parts=frees_parts)

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
        folder, file_name = content_path(name)
        parent = open_subdirectory(self._contents, folder)
        try:
            file = DataFile(parent, file_name, key.size_bytes)
        finally:
            os.close(parent)
        try:
            if file.is_fresh:
                self.index.forget_content(name)
            record = self.index.load_content(name) or ContentRecord(name, key, verified=False)
            blocks = BlockMap(key.size_bytes, self.index.load_segments(name))
        except BaseException:
            file.close()
            raise
        self._space.set_cached(name, blocks.cached_bytes())
        return StoredContent(record, blocks, file, self.index, self._space, self._clock, self._close_content)

    def _close_content(self, stored: StoredContent) -> None:
        """Take back one reference; the last one settles the content, outside the lock, and closes it.

        While it settles, others may open the content, write and close it: then it is settled again.
        """
        may_close = False
        while True:
            with self._lock:
                opened = self._open.get(stored.name)
                if opened is None or opened.stored is not stored:
                    return
                if opened.references > 1 or may_close:
                    opened.references -= 1
                    if not opened.references:
                        del self._open[stored.name]
                        stored.close_file()
                    return
            may_close = not stored.settle() or not stored.has_changes

    def spool(self) -> Spool:
        """A file without a name for bytes of unknown content, to be closed by the caller.

        Raises:
            CacheFull, CacheUnusable: it cannot be made.

        """
        return Spool(self._contents, self._space)

    def cached_bytes(self, key: ContentKey) -> int:
        """How many bytes of the content of *key* are in the cache."""
        return self._space.cached_bytes(content_name(key))

    def usage(self) -> CacheUsage:
        """What the cache holds, and what is free on its disk."""
        return self._space.usage()

    def make_room(self, wanted_bytes: int) -> int:
        """Evict what is least recently used until *wanted_bytes* more fit: how many bytes were freed.

        Writing does so by itself. Contents that are not open go first, then of open ones what is not hot. It
        may free less than wanted, and failures of the disk meanwhile are logged.
        """
        return self._space.make_room(wanted_bytes)

    def _evict(self, wanted_bytes: int) -> int:
        """Evict *wanted_bytes*, or what there is: how many bytes were freed."""
        freed = 0
        with ExitStack() as references:
            open_contents = self._referenced(references)
            try:
                for freed_bytes in self._evictions(open_contents, wanted_bytes):
                    freed += freed_bytes
            except StoreError as error:
                _log.warning("the cache could not be made smaller: %s", error)
        return freed

    def _referenced(self, references: ExitStack) -> list[StoredContent]:
        """The open contents, with a reference to each that *references* gives back, so that none is closed."""
        with self._lock:
            for opened in self._open.values():
                opened.references += 1
                references.callback(opened.stored.close)
            return [opened.stored for opened in self._open.values()]

    def _evictions(self, open_contents: list[StoredContent], wanted_bytes: int) -> Iterator[int]:
        """Evict step by step, contents that are not open first: how many bytes each step freed."""
        open_names = {stored.name for stored in open_contents}
        victims: dict[str, list[int]] = {}
        for name, number in self.index.least_recently_used(open_names, wanted_bytes):
            victims.setdefault(name, []).append(number)
        for name, numbers in victims.items():
            freed = self._evict_idle(name, numbers)
            yield freed
            wanted_bytes -= freed
            if wanted_bytes <= 0:
                return
        if self._frees_parts:
            yield from _evict_open(open_contents, wanted_bytes)

    def _evict_idle(self, name: str, numbers: list[int]) -> int:
        """Evict segments of a content that is not open, or all of it where parts cannot be freed."""
        record = self.index.load_content(name)
        if record is None:
            return 0
        size_bytes = record.key.size_bytes
        if self._frees_parts:
            runs = [segment_blocks(number, size_bytes) for number in numbers]
        else:
            runs = [(0, block_count(size_bytes))]
        stored = self.content(record.key)
        try:
            return stored.evict(runs)
        finally:
            stored.close()

    def _free_bytes(self) -> int:
        """The free space of the disk that we may use (fstatvfs(3))."""
        with store_errors("the free space of the cache's disk cannot be told"):
            status = os.fstatvfs(self._contents)
        return status.f_bavail * status.f_frsize

    def close(self) -> None:
        """Settle and close all contents and the index, and let go of the directory.

        Contents that are still open are closed too; nobody may be using them any more.
        """
        with self._lock:
            still_open = [opened.stored for opened in self._open.values()]
            self._open.clear()
        with self._resources:
            for stored in still_open:
                stored.settle()
                stored.close_file()


def _evict_open(contents: list[StoredContent], wanted_bytes: int) -> Iterator[int]:
    """Evict from open *contents*, the longest unused segments first, passing over those being written."""
    uses = iter(sorted((use, place) for place, stored in enumerate(contents) for use in stored.evictable()))
    while wanted_bytes > 0:
        victims: dict[int, list[tuple[int, int]]] = {}
        expected_bytes = 0
        for use, place in uses:
            victims.setdefault(place, []).append(segment_blocks(use.number, contents[place].size_bytes))
            expected_bytes += use.cached_bytes
            if expected_bytes >= wanted_bytes:
                break
        if not victims:
            return
        for place, runs in victims.items():
            freed = contents[place].evict(runs)
            wanted_bytes -= freed
            yield freed
