"""The contents that are open: each once, however many use it, and closed by the last one.

Used by `CacheDirectory` and by eviction; any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from imagefs.core.models import LARGEST_IMAGE_BYTES, ContentKey
from imagefs.errors import CacheFull
from imagefs.store.block_table import BlockTable
from imagefs.store.content_file import StoredContent
from imagefs.store.data_file import DataFile
from imagefs.store.files import subdirectory
from imagefs.store.index import ContentRecord, Index
from imagefs.store.layout import content_name, content_path
from imagefs.store.space import Space


@dataclass(slots=True)
class _OpenContent:
    stored: StoredContent
    references: int = 0


class OpenContents:
    """Contents by their name, below the directory *contents*, with references counted."""

    def __init__(self, contents: int, index: Index, space: Space, clock: Callable[[], int]) -> None:
        self._contents = contents
        self._index = index
        self._space = space
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, _OpenContent] = {}

    def open(self, key: ContentKey) -> StoredContent:
        """As `CacheDirectory.content`."""
        name = content_name(key)
        if key.size_bytes > LARGEST_IMAGE_BYTES:
            raise CacheFull(f"a content of {key.size_bytes} bytes is too large for the cache")
        with self._lock:
            opened = self._open.get(name)
            if opened is None:
                opened = self._open[name] = _OpenContent(self._load(name, key))
            opened.references += 1
            return opened.stored

    def _load(self, name: str, key: ContentKey) -> StoredContent:
        folder, file_name = content_path(name)
        with subdirectory(self._contents, folder) as parent:
            file = DataFile(parent, file_name, key.size_bytes)
        try:
            if file.is_fresh:
                self._index.forget_content(name)
            record = self._index.load_content(name) or ContentRecord(name, key, verified=False)
            blocks = BlockTable(key.size_bytes, self._index.load_segments(name))
        except BaseException:
            file.close()
            raise
        self._space.set_cached(name, blocks.cached_bytes())
        return StoredContent(record, blocks, file, self._index, self._space, self._clock, self._close)

    def _close(self, stored: StoredContent) -> None:
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

    def all(self, references: ExitStack) -> list[StoredContent]:
        """All that are open, each with a reference that *references* gives back, so that none is closed meanwhile."""
        with self._lock:
            for opened in self._open.values():
                opened.references += 1
                references.callback(opened.stored.close)
            return [opened.stored for opened in self._open.values()]

    def close(self) -> None:
        """Settle and close all; nobody may be using them any more."""
        with self._lock:
            still_open = [opened.stored for opened in self._open.values()]
            self._open.clear()
        for stored in still_open:
            stored.settle()
            stored.close_file()
