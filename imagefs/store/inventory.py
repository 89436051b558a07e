"""What the cache holds, for people: a row per content, and whether its bytes are still right.

Made by `CacheDirectory` for the command line; any thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imagefs.core.models import ContentKey
from imagefs.errors import CacheUnusable
from imagefs.store.blocks import block_range
from imagefs.store.content_file import StoredContent
from imagefs.store.index import Index
from imagefs.store.layout import content_name
from imagefs.store.pins import Pins
from imagefs.store.space import Space


@dataclass(frozen=True, slots=True)
class CachedContent:
    """One content of which something is cached, or that is pinned.

    ``used_ns`` is when it was last read or written, in nanoseconds since the epoch; 0 for never. ``verified``
    tells that the whole was once compared with its MD5.
    """

    key: ContentKey
    cached_bytes: int
    used_ns: int
    verified: bool
    pinned: bool


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of comparing cached blocks with their sums; damaged ones were forgotten, to be fetched again."""

    checked_bytes: int
    damaged_bytes: int


def list_cached(
    index: Index, pins: Pins, space: Space, open_contents: Iterable[StoredContent]
) -> list[CachedContent]:
    """A row per content, the longest unused first. Raises CacheFull or CacheUnusable."""
    keys = {content_name(key): key for key in pins.contents()}
    records = index.load_contents()
    keys |= {name: record.key for name, record in records.items()}
    last_uses_ns = index.last_uses()
    for stored in open_contents:
        last_uses_ns[stored.name] = max(last_uses_ns.get(stored.name, 0), stored.used_ns)
        keys.setdefault(stored.name, stored.key)
    rows = [
        CachedContent(
            key,
            space.cached_bytes(name),
            last_uses_ns.get(name, 0),
            verified=name in records and records[name].verified,
            pinned=name in pins,
        )
        for name, key in sorted(keys.items())
    ]
    return sorted((row for row in rows if row.cached_bytes or row.pinned), key=lambda row: row.used_ns)


def verify_content(stored: StoredContent) -> Verification:
    """Read every block that *stored* has and compare it with its sum.

    Raises:
        CacheFull, CacheUnusable: the index could not be changed; damaged blocks count as absent all the same.

    """
    checked_bytes = 0
    damaged: dict[int, int] = {}
    for block, state in enumerate(bytes(stored.present)):
        if not state:
            continue
        try:
            is_right = stored.check_block(block)
        except CacheUnusable:
            is_right = False
        if not stored.has_blocks(block, block + 1):
            continue  # evicted meanwhile
        start, end = block_range(block, stored.size_bytes)
        checked_bytes += end - start
        if not is_right:
            damaged[block] = end - start
    stored.forget_blocks(damaged)
    return Verification(checked_bytes, sum(damaged.values()))
