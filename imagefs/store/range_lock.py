"""Locks on ranges of blocks. Used on worker threads, by whoever writes or forgets blocks of a content."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class RangeLock:
    """Locks ranges [first, end): different blocks can be changed at the same time, the same ones in turn."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[tuple[int, int]] = []

    @contextmanager
    def hold(self, first: int, end: int) -> Iterator[None]:
        """Wait until nobody holds any of [first, end), and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_free(first, end))
            self._held.append((first, end))
        try:
            yield
        finally:
            self.release(first, end)

    def try_hold(self, first: int, end: int) -> bool:
        """Hold [first, end) if nobody holds any of it; returns whether it is held now, until `release`."""
        with self._changed:
            if not self._is_free(first, end):
                return False
            self._held.append((first, end))
            return True

    def release(self, first: int, end: int) -> None:
        """Let go of [first, end), exactly as it was held."""
        with self._changed:
            self._held.remove((first, end))
            self._changed.notify_all()

    def _is_free(self, first: int, end: int) -> bool:
        return all(held_end <= first or end <= held_first for held_first, held_end in self._held)
