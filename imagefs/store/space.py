"""How many bytes are cached, and whether more fit. Used by `CacheDirectory` and its contents; any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from imagefs.errors import CacheFull

_BATCH_BYTES: Final = 64 * 1024 * 1024
"""How much more than needed is evicted at once, so that not every write has to evict."""

_BATCH_FRACTION: Final = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the disk the cache may take: *max_bytes* at most, and only while *min_free_bytes* stay free."""

    max_bytes: int
    min_free_bytes: int


@dataclass(frozen=True, slots=True)
class CacheUsage:
    """What the cache holds. ``contents`` counts those of which at least one block is cached."""

    cached_bytes: int
    max_bytes: int
    free_bytes: int
    contents: int


class Space:
    """The bytes that each content has in the cache, within a limit and above a floor of free disk space.

    *free_bytes* returns the free space of the disk. *evict* is called with a number of bytes to free, one call at a
    time, and returns how many it freed. *cached* is what each content has at first, by name.
    """

    def __init__(
        self,
        limits: Limits,
        free_bytes: Callable[[], int],
        evict: Callable[[int], int],
        cached: Mapping[str, int],
    ) -> None:
        self._limits = limits
        self._free_bytes = free_bytes
        self._evict = evict
        self._evicting = threading.Lock()
        self._lock = threading.Lock()
        self._cached = dict(cached)
        self._total_bytes = sum(cached.values())

    def reserve(self, name: str, wanted_bytes: int) -> None:
        """Count *wanted_bytes* more for content *name*, after making room where needed.

        Raises:
            CacheFull: they do not fit, even after eviction.

        """
        if self._reserve_if_fits(name, wanted_bytes):
            return
        with self._evicting:
            while not self._reserve_if_fits(name, wanted_bytes):  # others may take the room as it is made
                if not self._evict(self._shortfall(wanted_bytes) + self._batch_bytes):
                    raise CacheFull("the cache is full, and what is in it is in use")

    def evict(self, wanted_bytes: int) -> int:
        """Evict *wanted_bytes* even if they seem to fit, as the disk said that they do not: how many were freed."""
        with self._evicting:
            return self._evict(wanted_bytes + self._batch_bytes)

    def release(self, name: str, freed_bytes: int) -> None:
        """Count *freed_bytes* less for content *name*."""
        with self._lock:
            self._set(name, self._cached.get(name, 0) - freed_bytes)

    def set_cached(self, name: str, cached_bytes: int) -> None:
        """Content *name* has *cached_bytes*."""
        with self._lock:
            self._set(name, cached_bytes)

    def _set(self, name: str, cached_bytes: int) -> None:
        self._total_bytes += cached_bytes - self._cached.pop(name, 0)
        if cached_bytes:
            self._cached[name] = cached_bytes

    def cached_bytes(self, name: str) -> int:
        """How many bytes content *name* has."""
        with self._lock:
            return self._cached.get(name, 0)

    def usage(self) -> CacheUsage:
        """What the cache holds now."""
        free_bytes = self._free_bytes()
        with self._lock:
            return CacheUsage(self._total_bytes, self._limits.max_bytes, free_bytes, len(self._cached))

    def _reserve_if_fits(self, name: str, wanted_bytes: int) -> bool:
        if not wanted_bytes:
            return True
        if self._below_floor(wanted_bytes) > 0:  # without the lock: the disk may hang
            return False
        with self._lock:
            if self._over_limit(wanted_bytes) > 0:
                return False
            self._total_bytes += wanted_bytes
            self._cached[name] = self._cached.get(name, 0) + wanted_bytes
            return True

    def _shortfall(self, wanted_bytes: int) -> int:
        """How many bytes have to go before *wanted_bytes* more fit."""
        if not wanted_bytes:
            return 0
        return max(self._over_limit(wanted_bytes), self._below_floor(wanted_bytes), 0)

    def _over_limit(self, wanted_bytes: int) -> int:
        return self._total_bytes + wanted_bytes - self._limits.max_bytes

    def _below_floor(self, wanted_bytes: int) -> int:
        return self._limits.min_free_bytes + wanted_bytes - self._free_bytes()

    @property
    def _batch_bytes(self) -> int:
        return min(_BATCH_BYTES, self._limits.max_bytes // _BATCH_FRACTION)
