"""A content's bytes at rest: in the cache file, or in memory while the cache disk is full or failing.

Methods marked "any thread" run in worker threads, several at once; the rest on trio's thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from imagefs.content.sums import Sums
from imagefs.core.models import ContentKey
from imagefs.errors import ContentWrong, ImageChanged, StoreError
from imagefs.store.blocks import BLOCK_BYTES, block_count, runs_of
from imagefs.store.range_lock import RangeLock

logger = logging.getLogger(__name__)

MEMORY_BLOCKS: Final = 256
"""How many blocks (32 MiB) of one content are kept in memory where the cache takes none."""


class Stored(Protocol):
    """The part of :class:`imagefs.store.content_file.StoredContent` that this room needs; any thread."""

    key: ContentKey
    size_bytes: int
    hot: tuple[int, int]

    @property
    def present(self) -> bytes | bytearray: ...
    @property
    def verified(self) -> bool: ...
    def sum_of(self, block: int) -> bytes | None: ...
    def write_blocks(self, first_block: int, data: memoryview, sums: Sequence[bytes]) -> None: ...
    def read_into(self, offset: int, buffer: memoryview) -> None: ...
    def read_now_into(self, offset: int, buffer: memoryview) -> bool: ...
    def will_need(self, offset: int, length: int) -> None: ...
    def check_block(self, block: int) -> bool: ...
    def forget_blocks(self, blocks: Iterable[int]) -> None: ...
    def flush(self) -> int: ...
    def mark_verified(self) -> None: ...
    def drop(self) -> None: ...
    def touch(self, first_block: int, last_block: int) -> None: ...
    def close(self) -> None: ...


class Blocks:
    """Reads and writes whole blocks, and holds each against the checksum that is already known for it."""

    def __init__(self, stored: Stored, image_id: str) -> None:
        self.stored = stored
        self.size_bytes = stored.size_bytes
        self.cache_failed = False
        self.differs = False
        self._image_id = image_id
        self._memory: dict[int, bytes] = {}
        self._kept_sums = Sums()
        self._memory_lock = threading.Lock()
        self._writing = RangeLock()
        self._delivered_sums: dict[int, bytes] = {}
        self._unreadable: set[int] = set()
        self._closed = False

    @property
    def in_memory(self) -> bool:
        """Whether some blocks are in memory only."""
        return bool(self._memory)

    def expect(self, sums: dict[int, bytes]) -> None:
        """From now on, note in :attr:`differs` whether an arriving block is not what readers already got."""
        self._delivered_sums = sums
        self.differs = False

    def write(self, first: int, data: memoryview, sums: Sequence[bytes]) -> list[int]:
        """Take arrived blocks; any thread. Returns those that memory gave up for them.

        Raises ContentWrong where they differ from a proved checksum, ImageChanged where they differ from an unproved
        one: the service then sends other bytes than before.
        """
        with self._writing.hold(first, first + len(sums)):  # nobody else writes them after they were compared
            self._compare(first, sums)
            return self._write(first, data, sums)

    def _compare(self, first: int, sums: Sequence[bytes]) -> None:
        known = [self._sum_of(first + i) for i in range(len(sums))]
        for i, (old, new) in enumerate(zip(known, sums, strict=True)):
            if old is not None and old != new:
                text = f"The service sends other bytes for image {self._image_id} than before (block {first + i})."
                raise ContentWrong(text) if self.stored.verified else ImageChanged(text)
            if self._delivered_sums and self._delivered_sums.get(first + i, new) != new:
                self.differs = True

    def _write(self, first: int, data: memoryview, sums: Sequence[bytes]) -> list[int]:
        dropped: list[int] = []
        for start, end in runs_of(i for i in range(len(sums)) if not self._is_cached(first + i)):
            part = data[start * BLOCK_BYTES : end * BLOCK_BYTES]
            dropped += self._put(first + start, part, sums[start:end])
        return dropped

    def _sum_of(self, block: int) -> bytes | None:
        return self.stored.sum_of(block) or self._kept_sums.get(block)

    def _is_cached(self, block: int) -> bool:
        return block not in self._unreadable and bool(self.stored.present[block])

    def _put(self, first: int, data: memoryview, sums: Sequence[bytes]) -> list[int]:
        try:
            if self._unreadable.isdisjoint(range(first, first + len(sums))):
                self.stored.write_blocks(first, data, sums)
                self.cache_failed = False
                return []
        except StoreError as error:
            if not self.cache_failed:
                logger.warning(
                    "The cache takes no more of image %s (%s); going on without it.", self._image_id, error
                )
            self.cache_failed = True
        return self._keep(first, data, sums)

    def _keep(self, first: int, data: memoryview, sums: Sequence[bytes]) -> list[int]:
        with self._memory_lock:
            self._kept_sums.note(first, sums)
            for i in range(len(sums)):
                self._memory.pop(first + i, None)  # the latest is given up last
                self._memory[first + i] = bytes(data[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES])
            surplus = max(0, len(self._memory) - MEMORY_BLOCKS)
            dropped = list(self._memory)[:surplus]
            for block in dropped:
                del self._memory[block]
        return dropped

    def read_now(self, offset: int, buffer: memoryview) -> bool:
        """Fill *buffer* from *offset* without waiting for a disk; False where that cannot be."""
        return not self._memory and self.stored.read_now_into(offset, buffer)

    def read_ahead(self, offset: int, length: int, buffer: memoryview) -> list[int]:
        """As :meth:`read`, while the disk brings the *length* bytes from *offset* on; any thread."""
        self.stored.will_need(offset, length)
        return self.read(offset, buffer)

    def read(self, offset: int, buffer: memoryview) -> list[int]:
        """Fill *buffer* from *offset*; any thread. Returns the blocks that cannot be had (any more).

        They were evicted, or given up by memory, or the disk cannot read them: such blocks are kept in memory when they
        arrive again.
        """
        gone: list[int] = []
        end = offset + len(buffer)
        if not self._memory and not self._unreadable:
            try:
                self.stored.read_into(offset, buffer)
            except StoreError:
                pass  # found out below, block by block
            else:
                return gone
        for block in range(offset // BLOCK_BYTES, block_count(end)):
            start, stop = max(offset, block * BLOCK_BYTES), min(end, (block + 1) * BLOCK_BYTES)
            if not self._read_block(block, start, buffer[start - offset : stop - offset]):
                gone.append(block)
        return gone

    def _read_block(self, block: int, offset: int, part: memoryview) -> bool:
        kept = self._memory.get(block)
        if kept is not None:
            start = offset - block * BLOCK_BYTES
            part[:] = kept[start : start + len(part)]
            return True
        if not self._is_cached(block):
            return False
        try:
            self.stored.read_into(offset, part)
        except StoreError as error:
            if self.stored.present[block] and not self._closed:
                logger.warning("The cached content of image %s cannot be read: %s", self._image_id, error)
                self._unreadable.add(block)
            return False
        return True

    def check(self, first: int, end: int) -> list[int]:
        """Compare the cached blocks ``[first, end)`` with their checksums; any thread. Returns the damaged ones.

        They are forgotten, to be fetched again.
        """
        damaged: list[int] = []
        self.stored.will_need(first * BLOCK_BYTES, (end - first) * BLOCK_BYTES)
        for block in range(first, end):
            try:
                right = self.stored.check_block(block)
            except StoreError:
                right = False
            if not right:
                damaged.append(block)
        if damaged:
            logger.warning(
                "%d cached blocks of image %s are damaged; fetching them again.", len(damaged), self._image_id
            )
            self.forget(damaged)
        return damaged

    def forget(self, blocks: Sequence[int]) -> None:
        """Give up cached blocks; any thread."""
        try:
            self.stored.forget_blocks(blocks)
        except StoreError as error:
            logger.warning("Blocks of image %s could not be given back: %s", self._image_id, error)

    def drop(self) -> None:
        """Forget everything, checksums included; any thread."""
        with self._memory_lock:
            self._memory.clear()
            self._kept_sums.clear()
        try:
            self.stored.drop()
        except StoreError as error:
            logger.warning("The cached content of image %s could not be dropped: %s", self._image_id, error)

    def mark_verified(self) -> None:
        """Record that the whole is right, if the cache has seen all of it; any thread."""
        if any(self.stored.sum_of(block) is None for block in range(block_count(self.size_bytes))):
            return
        try:
            self.stored.mark_verified()
        except StoreError as error:
            logger.warning("That image %s is right could not be recorded: %s", self._image_id, error)

    def flush(self) -> None:
        """Make what the cache holds durable, and its place in the index; any thread."""
        try:
            self.stored.flush()
        except StoreError as error:
            logger.warning("What was cached of image %s could not be recorded: %s", self._image_id, error)

    def close(self) -> None:
        """Flush and close the cached file; any thread. Nobody writes any more, or waits for a read."""
        self._closed = True
        try:
            self.stored.close()
        except StoreError as error:
            logger.warning("What was cached of image %s could not be recorded: %s", self._image_id, error)

    def sums_of(self, blocks: Sequence[int]) -> dict[int, bytes]:
        """The checksums of *blocks*, as far as they are known."""
        return {block: known for block in blocks if (known := self._sum_of(block)) is not None}
