"""Opening a cached file for a caller who may leave before it is open, as a cache disk can hang."""

from __future__ import annotations

import threading
from collections.abc import Callable

from imagefs.content.blocks import Stored


class Opening:
    """One call of *open_stored*, made in a worker thread. If the caller has left, what it opens is closed again."""

    def __init__(self, open_stored: Callable[[], Stored]) -> None:
        self._open_stored = open_stored
        self._lock = threading.Lock()
        self._stored: Stored | None = None
        self._left = False

    def run(self) -> Stored:
        """Returns and raises what *open_stored* does; in a worker thread."""
        stored = self._open_stored()
        with self._lock:
            self._stored = stored
            left = self._left
        if left:
            stored.close()
        return stored

    def leave(self) -> Stored | None:
        """The caller leaves. Returns what it has to close, where that is open already."""
        with self._lock:
            self._left = True
            return self._stored
