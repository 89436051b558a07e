"""One content in the cache: its blocks written, read, made durable and forgotten.

Used by the content room on worker threads, several at once. The order that makes it safe: data is durable
before the index claims it, and the index has let go of it before its space is given back.

Locks, always taken in this order: one flush at a time, the blocks being changed (`RangeLock`), one commit to
the index at a time. `BlockTable` and `Index` have locks of their own, held for single calls.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from imagefs.errors import CacheFull, CacheUnusable, StoreError
from imagefs.store.block_table import BlockTable, SegmentUse
from imagefs.store.blocks import (
    BLOCK_BYTES,
    SEGMENT_BYTES,
    SUM_BYTES,
    block_range,
    block_sum,
    runs_of,
    segment_blocks,
    segments_of,
    span_bytes,
)
from imagefs.store.data_file import DataFile
from imagefs.store.index import ContentRecord, Index
from imagefs.store.range_lock import RangeLock
from imagefs.store.space import Space

_log = logging.getLogger(__name__)

_NOTHING_HOT: Final = (0, 0)


class StoredContent:
    """An open content of the cache, made by `CacheDirectory.content`.

    Attributes:
        key: whose bytes these are.
        size_bytes: the size of the whole content.
        hot: the blocks [first, end) that must not be evicted, set by the caller for its readers.

    """

    def __init__(
        self,
        record: ContentRecord,
        blocks: BlockTable,
        file: DataFile,
        index: Index,
        space: Space,
        clock: Callable[[], int],
        release: Callable[[StoredContent], None],
    ) -> None:
        """Take over *file*, with the *blocks* that the index claims to be in it."""
        self.key = record.key
        self.size_bytes = record.key.size_bytes
        self.hot = _NOTHING_HOT
        self.name = record.name
        self._verified = record.verified and blocks.knows_all_sums
        self._blocks = blocks
        self._file = file
        self._index = index
        self._space = space
        self._clock = clock
        self._release = release
        self._flushing = threading.Lock()
        self._ranges = RangeLock()
        self._committing = threading.Lock()
        self._entry_is_durable = False

    @property
    def present(self) -> bytearray:
        """One byte per block, zero where the block is not in the cache. To be read only."""
        return self._blocks.present

    @property
    def verified(self) -> bool:
        """Whether the whole content was once checked against its MD5: from then on its sums are proved."""
        return self._verified

    def sum_of(self, block: int) -> bytes | None:
        """The sum of *block* if it is known, also where the block was evicted; proved if `verified`."""
        return self._blocks.sum_of(block)

    def has_blocks(self, first_block: int, end_block: int) -> bool:
        """Whether all blocks of [first_block, end_block) are in the cache."""
        return self._blocks.has(first_block, end_block)

    def write_blocks(self, first_block: int, data: memoryview, sums: Sequence[bytes]) -> None:
        """Write whole blocks from *first_block* on; they are present from then on, and durable after `flush`.

        *data* ends at a block's end or at the content's; *sums* are the `block_sum` of each block. Room is
        made where needed.

        Raises:
            CacheFull: no space, even after eviction; the blocks are not present then.
            CacheUnusable: the disk fails.
            ValueError: *data* and *sums* are not of whole blocks, or a sum differs from a verified one.

        """
        end = first_block + len(sums)
        self._check_write(first_block, end, data, sums)
        with self._ranges.hold(first_block, end):
            new_bytes = data.nbytes - self._blocks.cached_bytes(first_block, end)
            self._space.reserve(self.name, new_bytes)
            try:
                self._write_or_make_room(first_block, data, new_bytes)
            except BaseException:
                self._space.release(self.name, new_bytes)
                raise
            self._blocks.note_written(first_block, sums, self._clock())

    def _check_write(self, first: int, end: int, data: memoryview, sums: Sequence[bytes]) -> None:
        if not 0 <= first < end <= len(self.present) or data.nbytes != span_bytes(
            first, end, self.size_bytes
        ):
            raise ValueError(f"{data.nbytes} bytes are not the blocks {first} to {end - 1} of {self.name}")
        if any(len(each) != SUM_BYTES for each in sums):
            raise ValueError(f"a block sum has {SUM_BYTES} bytes")
        if self._verified and any(self.sum_of(block) != each for block, each in enumerate(sums, first)):
            raise ValueError(f"blocks {first} to {end - 1} of {self.name} differ from the verified content")

    def _write_or_make_room(self, first: int, data: memoryview, new_bytes: int) -> None:
        offset = first * BLOCK_BYTES
        try:
            self._file.write(data, offset)
        except CacheFull:
            if new_bytes == data.nbytes:  # nothing claims what was written, and the index needs the space
                self._file.free(offset, offset + data.nbytes)
            self._space.evict(data.nbytes)
            self._file.write(data, offset)

    def read(self, offset: int, length: int) -> bytearray:
        """*length* bytes at *offset*; otherwise as `read_into`."""
        found = bytearray(length)
        self.read_into(offset, memoryview(found))
        return found

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill *buffer* from *offset* with what is in the file, not compared with any sum.

        Raises:
            CacheUnusable: the disk fails, or not all of the blocks are present (any more).

        """
        first, end = self._blocks_of(offset, len(buffer))
        while True:
            generation = self._blocks.generation
            if not self._blocks.has(first, end):
                raise CacheUnusable(f"blocks {first} to {end - 1} of {self.name} are not in the cache")
            if self._file.read_into(offset, buffer) != len(buffer):
                raise CacheUnusable(f"the cache file {self.name} is shorter than it should be")
            if generation == self._blocks.generation:
                return

    def read_now_into(self, offset: int, buffer: memoryview) -> bool:
        """As `read_into`, from the page cache only: False where it would block or fail, or not all is present."""
        first, end = self._blocks_of(offset, len(buffer))
        generation = self._blocks.generation
        if not self._blocks.has(first, end):
            return False
        return self._file.read_now_into(offset, buffer) and generation == self._blocks.generation

    def will_need(self, offset: int, length: int) -> None:
        """Start to bring *length* bytes at *offset* into the page cache, as they will be read soon."""
        self._file.will_need(offset, length)

    def _blocks_of(self, offset: int, length: int) -> tuple[int, int]:
        if offset < 0 or length < 0 or offset + length > self.size_bytes:
            raise ValueError(f"bytes {offset} to {offset + length} are not within {self.name}")
        return offset // BLOCK_BYTES, -(-(offset + length) // BLOCK_BYTES)

    def check_block(self, block: int) -> bool:
        """Whether *block*, read from the disk, has its known sum; raises as `read`."""
        start, end = block_range(block, self.size_bytes)
        return block_sum(self.read(start, end - start)) == self.sum_of(block)

    def flush(self) -> int:
        """Make what was written before this call durable: how many blocks became so.

        Raises:
            CacheFull: no space, even after eviction.
            CacheUnusable: the disk fails.

        In both cases, what the file could not take is forgotten, and what the index could not take stays to
        be flushed.

        """
        try:
            return self._flush()
        except CacheFull:
            self._space.evict(SEGMENT_BYTES)
            return self._flush()

    def _flush(self, used: Sequence[int] = ()) -> int:
        with self._flushing:
            changed = self._blocks.begin_sync()
            if changed:
                self._sync_file()
            durable = self._blocks.finish_sync(changed)
            if changed or used:
                self._commit(sorted({*changed, *used}))
            return durable

    def _sync_file(self) -> None:
        try:
            self._file.sync()
            if not self._entry_is_durable:
                self._file.sync_entry()
                self._entry_is_durable = True
        except StoreError:
            # After a failed sync nobody knows what the file holds, and the next one may succeed (fsync(2)).
            self._forget(runs_of(self._blocks.unsynced_blocks()))
            raise

    def _commit(self, numbers: Sequence[int]) -> None:
        """Bring segments into the index; if that fails, they stay to be flushed."""
        with self._committing:
            try:
                record = ContentRecord(self.name, self.key, self._verified)
                self._index.save_content(record, self._blocks.rows(numbers))
            except StoreError:
                self._blocks.note_unsaved(numbers)
                raise

    def mark_verified(self) -> None:
        """The whole content was checked against its MD5 and size: flush, and record that durably.

        Raises:
            CacheFull, CacheUnusable: as `flush`; not verified then.
            ValueError: a block's sum is not known, so that not all can have been checked.

        """
        if not self._blocks.knows_all_sums:
            raise ValueError(f"not every block sum of {self.name} is known")
        self.flush()
        with self._committing:
            self._index.save_content(ContentRecord(self.name, self.key, verified=True), [])
            self._verified = True

    def forget_blocks(self, blocks: Iterable[int]) -> None:
        """Give the space of *blocks* back, once no write to them is under way; their sums stay known.

        Raises:
            CacheFull, CacheUnusable: the index could not be changed; the blocks count as absent all the same.

        """
        self._forget(runs_of(sorted(set(blocks))))

    def _forget(self, runs: Iterable[tuple[int, int]]) -> None:
        """Forget all of *runs*, after writes that are going on; what failed for some of them is raised at the end."""
        failure: StoreError | None = None
        for first, end in runs:
            with self._ranges.hold(first, end):
                try:
                    self._forget_held([(first, end)])
                except StoreError as error:
                    failure = error
        if failure is not None:
            raise failure

    def _forget_held(self, runs: Sequence[tuple[int, int]]) -> int:
        """Forget *runs* of blocks, held by the caller, the index first: how many bytes were freed."""
        if self._file.is_closed:  # what a late look cannot read is not damaged
            raise CacheUnusable(f"the cache file {self.name} is closed")
        freed = self._blocks.forget(runs)
        self._space.release(self.name, freed)
        if freed or self._blocks.has_changes:  # such as those that the index could not take
            self._commit(segments_of(runs))
        for first, end in runs:
            self._file.free(first * BLOCK_BYTES, block_range(end - 1, self.size_bytes)[1])
        return freed

    def evictable(self) -> list[SegmentUse]:
        """What may be evicted now, the longest unused first."""
        return sorted(
            use
            for use in self._blocks.uses()
            if not self._is_hot(*segment_blocks(use.number, self.size_bytes))
        )

    def evict(self, runs: Iterable[tuple[int, int]]) -> int:
        """Forget those *runs* of blocks that are neither hot nor being written: how many bytes were freed.

        Raises:
            CacheFull, CacheUnusable: as `forget_blocks`.

        """
        held = [run for run in runs if not self._is_hot(*run) and self._ranges.try_hold(*run)]
        try:
            return self._forget_held(held) if held else 0
        finally:
            for first, end in held:
                self._ranges.release(first, end)

    def _is_hot(self, first: int, end: int) -> bool:
        hot_first, hot_end = self.hot
        return first < hot_end and hot_first < end

    def drop(self) -> None:
        """Forget everything, sums included, once no write is under way.

        Raises:
            CacheFull, CacheUnusable: the index or the file could not be changed; all counts as absent still.

        """
        with self._flushing, self._ranges.hold(0, len(self.present)), self._committing:
            self._blocks.forget_all()
            self._verified = False
            self._space.set_cached(self.name, 0)
            try:
                self._index.forget_content(self.name)
            finally:  # what the index claims still is found to differ from its sums
                self._file.free(0, self.size_bytes)

    @property
    def used_ns(self) -> int:
        """When something that is cached was last used, in nanoseconds since the epoch; 0 for never."""
        return max((use.used_ns for use in self._blocks.uses()), default=0)

    def touch(self, first_block: int, last_block: int) -> None:
        """The blocks from *first_block* to *last_block*, inclusive, were used now; kept at the last close."""
        self._blocks.touch(first_block, last_block, self._clock())

    def close(self) -> None:
        """Give back one reference; the last one flushes, keeps the times of use, and closes the file."""
        self._release(self)

    @property
    def has_changes(self) -> bool:
        """Whether something was written and not flushed."""
        return self._blocks.has_changes

    def settle(self) -> bool:
        """Flush, and record the times of use, before closing; False where that failed, which is logged.

        Called by `CacheDirectory`.
        """
        try:
            self._flush(self._blocks.take_touched())
        except StoreError as error:
            _log.warning("part of %s has to be fetched again: %s", self.name, error)
            return False
        return True

    def close_file(self) -> None:
        """Close the file and remove it if no sum of it is known; called by `CacheDirectory`."""
        try:
            if not self._blocks.knows_any_sum:
                self._file.remove()
        except StoreError as error:
            _log.warning("an empty cache file stays: %s", error)
        try:
            self._file.close()
        except StoreError as error:  # what was synced is durable all the same
            _log.warning("%s", error)
