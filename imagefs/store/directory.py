"""The cache directory: who owns it, the contents in it, and what is evicted when.

Opened once by the mount, after it went into the background (a lock and an open index do not survive a fork);
used from worker threads. On disk::

    lock                        held while a mount uses the directory; says which
    index, index-wal            what is here (SQLite)
    journal, journal-wal        what the mount has set out to do to the account (SQLite)
    index.damaged-N             an index that could not be trusted, kept to be looked at; journals likewise
    content/XX/NAME             one sparse file per content; XX are two digits of the hash in NAME
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from imagefs.core.models import ContentKey
from imagefs.store.content_file import StoredContent
from imagefs.store.data_file import punches_holes
from imagefs.store.database import Database
from imagefs.store.eviction import Eviction
from imagefs.store.files import open_root, open_subdirectory, store_errors
from imagefs.store.index import Index
from imagefs.store.inventory import CachedContent, Verification, list_cached, verify_content
from imagefs.store.layout import content_name
from imagefs.store.lock import acquire_lock
from imagefs.store.opened import OpenContents
from imagefs.store.pins import Pins
from imagefs.store.recovery import open_index, open_journal, reconcile
from imagefs.store.space import CacheUsage, Limits, Space
from imagefs.store.spool import Spool


@dataclass(frozen=True, slots=True)
class _Found:
    """What was opened. ``contents`` is the descriptor of the directory of content files, ``cached`` tells how many
    bytes each content has, ``frees_parts`` whether the file system can free a part of a file.
    """

    contents: int
    index: Index
    journal: Database
    pins: Pins
    problems: list[str]
    cached: Mapping[str, int]
    frees_parts: bool


class CacheDirectory:
    """The cache directory of one mount.

    Attributes:
        index: what is remembered beside contents: listing, details, local times.
        journal: where the account keeps what it has set out to do, for `JournalTable`.
        pins: what is never evicted.
        problems: sentences for the log about what was found wrong when the directory was opened.

    """

    def __init__(
        self, lock: ExitStack, resources: ExitStack, found: _Found, limits: Limits, clock: Callable[[], int]
    ) -> None:
        """Take over what `open` opened; *resources* closes it all, and after that *lock* lets go of the directory."""
        self.index = found.index
        self.journal = found.journal
        self.pins = found.pins
        self.problems = found.problems
        self._lock = lock
        self._resources = resources
        self._contents = found.contents
        self._space = Space(
            limits,
            self._free_bytes,
            lambda wanted: self._eviction.evict(wanted),  # noqa: PLW0108  # made below
            found.cached,
        )
        self._opened = OpenContents(found.contents, found.index, self._space, clock)
        self._eviction = Eviction(found.index, self._opened, found.pins, frees_parts=found.frees_parts)

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
        with (
            store_errors(f"the cache directory {path} cannot be used"),
            ExitStack() as locked,
            ExitStack() as resources,
        ):
            root = open_root(path)
            locked.callback(os.close, root)
            lock = acquire_lock(root, path, owner)
            locked.callback(os.close, lock)
            index, problems = open_index(root, path)
            resources.callback(index.close)
            journal = open_journal(root, path, index, problems)
            resources.callback(journal.close)
            contents = open_subdirectory(root, "content")
            resources.callback(os.close, contents)
            cached = reconcile(contents, index, problems)
            found = _Found(
                contents, index, journal, Pins(index.database), problems, cached, punches_holes(lock)
            )
            limits = Limits(max_bytes, min_free_bytes)
            return cls(locked.pop_all(), resources.pop_all(), found, limits, clock)

    def content(self, key: ContentKey) -> StoredContent:
        """The content of *key*, to be closed by the caller; the same object while it is open elsewhere.

        Raises:
            CacheFull: no space for an empty file, or the content is too large for any cache.
            CacheUnusable: its file or the index cannot be used.
            ValueError: *key* is malformed.

        """
        return self._opened.open(key)

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

    def evict(self, key: ContentKey) -> int:
        """Evict the content of *key*, except what is hot: how many bytes were freed.

        A pinned content is not evicted.

        Raises:
            CacheFull, CacheUnusable: the index or the file could not be changed.
            ValueError: *key* is malformed.

        """
        return self._eviction.evict_content(key) if self.cached_bytes(key) else 0

    def cached_contents(self) -> list[CachedContent]:
        """What is cached, and what is pinned though nothing of it is cached; the longest unused first.

        Raises:
            CacheFull, CacheUnusable: the index cannot be read.

        """
        with ExitStack() as references:
            return list_cached(self.index, self.pins, self._space, self._opened.all(references))

    def verify(self, key: ContentKey) -> Verification:
        """Compare every cached block of the content of *key* with its sum; forget those that are damaged.

        Raises:
            CacheFull, CacheUnusable: the index or the file cannot be used.
            ValueError: *key* is malformed.

        """
        with closing(self._opened.open(key)) as stored:
            return verify_content(stored)

    def _free_bytes(self) -> int:
        """The free space of the disk that we may use (fstatvfs(3))."""
        with store_errors("the free space of the cache's disk cannot be told"):
            status = os.fstatvfs(self._contents)
        return status.f_bavail * status.f_frsize

    def close(self) -> None:
        """Settle and close all contents and the index, and let go of the directory.

        Contents that are still open are closed too; nobody may be using them any more.
        """
        with self._lock, self._resources:
            self._opened.close()

    def remove(self, path: Path) -> None:
        """As `close`, and remove the directory, which is at *path*, before anybody else can begin to use it."""
        with self._lock:
            with self._resources:
                self._opened.close()
            shutil.rmtree(path, ignore_errors=True)
