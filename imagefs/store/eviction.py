"""What is evicted when the cache is full: the longest unused first, and contents that nobody has open before others.

What is pinned stays, and so does what is hot. Used by `CacheDirectory`; any thread, one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing

from imagefs.core.models import ContentKey
from imagefs.errors import StoreError
from imagefs.store.blocks import block_count, segment_blocks
from imagefs.store.content_file import StoredContent
from imagefs.store.index import Index
from imagefs.store.opened import OpenContents
from imagefs.store.pins import Pins

_log = logging.getLogger(__name__)


class Eviction:
    """Gives space back. *frees_parts* tells whether the file system can free a part of a file."""

    def __init__(self, index: Index, opened: OpenContents, pins: Pins, *, frees_parts: bool) -> None:
        self._index = index
        self._opened = opened
        self._pins = pins
        self._frees_parts = frees_parts

    def evict(self, wanted_bytes: int) -> int:
        """Evict *wanted_bytes*, or what there is: how many bytes were freed.

        Failures are logged. A content whose file cannot be opened is passed over.
        """
        freed = 0
        with ExitStack() as references:
            open_contents = self._opened.all(references)
            try:
                for freed_bytes in self._evictions(open_contents, wanted_bytes):
                    freed += freed_bytes
            except StoreError as error:
                _log.warning("the cache could not be made smaller: %s", error)
        return freed

    def evict_content(self, key: ContentKey) -> int:
        """Evict the content of *key*, except what is hot: how many bytes were freed. A pinned one is not evicted.

        Raises:
            CacheFull, CacheUnusable: the index or the file could not be changed.

        """
        with closing(self._opened.open(key)) as stored:
            if stored.name in self._pins:
                return 0
            if not self._frees_parts:
                return stored.evict([(0, block_count(key.size_bytes))])
            return stored.evict(segment_blocks(use.number, key.size_bytes) for use in stored.evictable())

    def _evictions(self, open_contents: list[StoredContent], wanted_bytes: int) -> Iterator[int]:
        """Evict step by step, contents that are not open first: how many bytes each step freed."""
        kept = {stored.name for stored in open_contents} | self._pins.names()
        while victims := self._victims(kept, wanted_bytes):
            for name, numbers in victims.items():
                freed = self._evict_idle(name, numbers)
                if not freed:
                    kept.add(name)
                yield freed
                wanted_bytes -= freed
                if wanted_bytes <= 0:
                    return
        if self._frees_parts:
            unpinned = [stored for stored in open_contents if stored.name not in self._pins]
            yield from _evict_open(unpinned, wanted_bytes)

    def _victims(self, kept: set[str], wanted_bytes: int) -> dict[str, list[int]]:
        """The longest unused segments, *wanted_bytes* in all, of contents that are not *kept*, by content."""
        victims: dict[str, list[int]] = {}
        for name, number in self._index.least_recently_used(kept, wanted_bytes):
            victims.setdefault(name, []).append(number)
        return victims

    def _evict_idle(self, name: str, numbers: list[int]) -> int:
        """Evict segments of a content that is not open, or all of it where parts cannot be freed."""
        record = self._index.load_content(name)
        if record is None:
            return 0
        size_bytes = record.key.size_bytes
        if self._frees_parts:
            runs = [segment_blocks(number, size_bytes) for number in numbers]
        else:
            runs = [(0, block_count(size_bytes))]
        try:
            content = self._opened.open(record.key)
        except StoreError as error:
            _log.warning("%s cannot be evicted: %s", name, error)
            return 0
        with closing(content) as stored:
            return stored.evict(runs)


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
