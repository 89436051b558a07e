"""What stands for a cached file where the cache directory gives none: full, read-only or failing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imagefs.content.sums import Sums
from imagefs.core.models import ContentKey
from imagefs.errors import CacheUnusable
from imagefs.store.blocks import block_count


class Uncached:
    """Holds nothing, but remembers checksums, so that a second fetch is still compared with the first.

    Thread-safe: each checksum is stored and read in one step.
    """

    def __init__(self, key: ContentKey) -> None:
        self.key = key
        self.size_bytes = key.size_bytes
        self.verified = False
        self.hot = (0, 0)
        self._absent = bytes(block_count(key.size_bytes))
        self._sums = Sums()

    @property
    def present(self) -> bytes:
        """None of the blocks."""
        return self._absent

    def sum_of(self, block: int) -> bytes | None:
        """The checksum of the block when it last passed by."""
        return self._sums.get(block)

    def write_blocks(self, first_block: int, data: memoryview, sums: Sequence[bytes]) -> None:
        """Always raises CacheUnusable, so that the blocks are kept in memory."""
        self._sums.note(first_block, sums)
        raise CacheUnusable("there is no cache file")

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Always raises CacheUnusable."""
        raise CacheUnusable("there is no cache file")

    def read_now_into(self, offset: int, buffer: memoryview) -> bool:
        """Never."""
        return False

    def will_need(self, offset: int, length: int) -> None:
        """There is nothing to bring."""

    def check_block(self, block: int) -> bool:
        """Never right: it is not there."""
        return False

    def forget_blocks(self, blocks: Iterable[int]) -> None:
        """There is nothing to give back."""

    def flush(self) -> int:
        """There is nothing to record."""
        return 0

    def mark_verified(self) -> None:
        """From now on the remembered checksums are those of the right content."""
        self.verified = True

    def drop(self) -> None:
        """Forget the checksums."""
        self._sums.clear()
        self.verified = False

    def touch(self, first_block: int, last_block: int) -> None:
        """There is nothing to keep."""

    def close(self) -> None:
        """There is nothing to close."""
