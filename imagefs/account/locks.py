"""Locks by key, so that changes of one image, or new images of one name, come one after the other.

Used by the account's changes on trio's thread.
"""

from __future__ import annotations

from weakref import WeakValueDictionary

import trio


class KeyedLocks:
    """A lock for each key, for as long as someone holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    def __getitem__(self, key: str) -> trio.Lock:
        return self._locks.setdefault(key, trio.Lock())
