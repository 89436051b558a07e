"""What the tests of the store share: made-up content, and short ways to write and check it."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

from imagefs.core.models import ContentKey
from imagefs.errors import CacheFull
from imagefs.store.blocks import BLOCK_BYTES, block_count, block_range, block_sum
from imagefs.store.content_file import StoredContent
from imagefs.store.directory import CacheDirectory

MIB = 1 << 20


class SteppingClock:
    """A clock that moves on by one nanosecond whenever it is read."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000

    def __call__(self) -> int:
        self.now_ns += 1
        return self.now_ns


def open_cache(path: Path, *, max_bytes: int = 256 * MIB, owner: str = "/mnt/images") -> CacheDirectory:
    """The cache at *path*, without a floor of free space."""
    return CacheDirectory.open(
        path, owner=owner, max_bytes=max_bytes, min_free_bytes=0, clock=SteppingClock()
    )


def key_of(number: int, size_bytes: int) -> ContentKey:
    """The key of made-up content *number*."""
    return ContentKey(size_bytes, f"{number:032x}")


def block_bytes(key: ContentKey, block: int) -> bytes:
    """The bytes of *block* of the made-up content of *key*: always the same, unlike any other block's."""
    start, end = block_range(block, key.size_bytes)
    pattern = random.Random(f"{key.checksum} {key.image_id!a} {block}").randbytes(16)
    return (pattern * (BLOCK_BYTES // 16))[: end - start]


def write(content: StoredContent, first: int, end: int) -> None:
    """Write the blocks [first, end) of made-up content, with their sums."""
    blocks = [block_bytes(content.key, block) for block in range(first, end)]
    content.write_blocks(first, memoryview(b"".join(blocks)), [block_sum(block) for block in blocks])


def write_all(content: StoredContent) -> None:
    """Write all blocks."""
    write(content, 0, block_count(content.size_bytes))


def present_blocks(content: StoredContent) -> set[int]:
    """The numbers of the blocks that are present."""
    return {block for block, state in enumerate(content.present) if state}


def content_file(path: Path, content_name: str) -> Path:
    """Where the file of a content is, below the cache at *path*."""
    return path / "content" / content_name.split("-")[1][:2] / content_name


def make_room(cache: CacheDirectory, wanted_bytes: int) -> int:
    """Have evicted what has to go before *wanted_bytes* more are written: how many bytes were freed."""
    before = cache.usage().cached_bytes
    with suppress(CacheFull):
        cache._space.reserve("room", wanted_bytes)
        cache._space.release("room", wanted_bytes)
    return before - cache.usage().cached_bytes
