"""One content in the cache: its blocks written, read, made durable and forgotten.

Used by the content room on worker threads, several at once. The order that makes it safe: data is durable
before the index claims it, and the index has let go of it before its space is given back.

Locks, always taken in this order: one flush at a time, the range of blocks being changed (`RangeLock`), one
commit to the index at a time, the state in memory. The last is never held during I/O.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from imagefs.core.models import ContentKey
from imagefs.errors import CacheFull, CacheUnusable, StoreError
from imagefs.store.block_map import BlockMap, SegmentRow
from imagefs.store.blocks import (
    BLOCK_BYTES,
    SEGMENT_BLOCKS,
    SUM_BYTES,
    block_range,
    block_sum,
    segment_blocks,
    segment_count,
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
        rows: Iterable[SegmentRow],
        file: DataFile,
        index: Index,
        space: Space,
        clock: Callable[[], int],
        release: Callable[[StoredContent], None],
        *,
        is_saved: bool,
    ) -> None:
        """Take over *file* and what the index has of it; *is_saved* tells whether the index knows the content."""
        self.key: ContentKey = record.key
        self.size_bytes = record.key.size_bytes
        self.hot = _NOTHING_HOT
        self.name = record.name
        self._verified = record.verified
        self._file = file
        self._index = index
        self._space = space
        self._clock = clock
        self._release = release
        self._ranges = RangeLock()
        self._flushing = threading.Lock()
        self._committing = threading.Lock()
        self._state = threading.Lock()
        self._forgotten = 0
        self._entry_is_durable = False
        self._map = BlockMap(self.size_bytes, rows)
        self._is_saved = is_saved
        if self._verified and not self._map.knows_all_sums:
            self._verified = False
        space.set_cached(self.name, self._map.cached_bytes(0, len(self._map.present)))

    @property
    def present(self) -> bytearray:
        """One byte per block, zero where the block is not in the cache. To be read only."""
        return self._map.present

    @property
    def verified(self) -> bool:
        """Whether the whole content was once checked against its MD5: its sums are the truth from then on."""
        return self._verified

    def sum_of(self, block: int) -> bytes | None:
        """The sum of *block* if it is known, also where the block was evicted; proved if `verified`."""
        with self._state:
            return self._map.sum_of(block)

    def has_blocks(self, first_block: int, end_block: int) -> bool:
        """Whether all blocks of [first_block, end_block) are in the cache."""
        return self._map.has(first_block, end_block)

    def write_blocks(self, first_block: int, data: memoryview, sums: Sequence[bytes]) -> None:
        """Write whole blocks from *first_block* on; they are present from then on, and durable after `flush`.

        *data* ends at a block's end or at the content's; *sums* are the `block_sum` of each block. Room is made
        where needed.

        Raises:
            CacheFull: no space, even after eviction; the blocks are not present then.
            CacheUnusable: the disk fails.
            ValueError: *data* and *sums* are not of whole blocks, or a sum differs from a verified one.

        """
        end = first_block + len(sums)
        self._check_write(first_block, end, data, sums)
        with self._ranges.hold(first_block, end):
            new_bytes = span_bytes(first_block, end, self.size_bytes) - self._map.cached_bytes(
                first_block, end
            )
            self._space.reserve(self.name, new_bytes)
            try:
                self._write_or_make_room(first_block, data, new_bytes)
            except BaseException:
                self._space.release(self.name, new_bytes)
                raise
            with self._state:
                self._map.note_written(first_block, sums, self._clock())

    def _check_write(self, first: int, end: int, data: memoryview, sums: Sequence[bytes]) -> None:
        if not 0 <= first < end <= len(self.present) or data.nbytes != span_bytes(
            first, end, self.size_bytes
        ):
            raise ValueError(f"{data.nbytes} bytes are not the blocks {first} to {end - 1} of {self.name}")
        if any(len(each) != SUM_BYTES for each in sums):
            raise ValueError(f"a block sum has {SUM_BYTES} bytes")
        if self._verified and any(self.sum_of(first + i) != each for i, each in enumerate(sums)):
            raise ValueError(f"blocks {first} to {end - 1} of {self.name} differ from the verified content")

    def _write_or_make_room(self, first: int, data: memoryview, new_bytes: int) -> None:
        offset = first * BLOCK_BYTES
        try:
            self._file.write(data, offset)
        except CacheFull:
            if new_bytes == data.nbytes:
                self._file.punch(offset, offset + data.nbytes)
            self._space.evict(data.nbytes)
            self._file.write(data, offset)

    def read(self, offset: int, length: int) -> bytes:
        """*length* bytes at *offset*, as they are in the file, not compared with any sum.

        Raises:
            CacheUnusable: the disk fails, or not all of the blocks are present.

        """
        first, end = self._blocks_of(offset, length)
        while True:
            seen = self._forgotten
            if not self._map.has(first, end):
                raise CacheUnusable(
                    f"bytes {offset} to {offset + length} of {self.name} are not in the cache"
                )
            data = self._file.read(offset, length)
            if len(data) != length:
                raise CacheUnusable(f"the cache file {self.name} is shorter than it should be")
            if seen == self._forgotten:
                return data

    def read_nowait(self, offset: int, length: int) -> bytes | None:
        """As `read`, but only out of the page cache: None where it would block, fail, or is not all present."""
        first, end = self._blocks_of(offset, length)
        seen = self._forgotten
        if not self._map.has(first, end):
            return None
        data = self._file.read_nowait(offset, length)
        return data if seen == self._forgotten else None

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
            CacheFull: the index has no space, even after eviction; what was written stays to be flushed.
            CacheUnusable: the disk fails; what could not be made durable is forgotten.

        """
        try:
            return self._flush(with_use=False)
        except CacheFull:
            self._space.evict(SEGMENT_BLOCKS * BLOCK_BYTES)
            return self._flush(with_use=False)

    def _flush(self, *, with_use: bool) -> int:
        with self._flushing:
            with self._state:
                numbers = self._map.begin_sync()
                used = self._map.take_touched() if with_use else []
            if not numbers and not used:
                return 0
            if numbers:
                self._sync_file(numbers)
            return self._commit_flush(numbers, used)

    def _sync_file(self, numbers: list[int]) -> None:
        """Sync the file; after a failure nothing can be said about what it holds (fsync(2)), so that is forgotten."""
        try:
            self._file.sync()
            if not self._entry_is_durable:
                self._file.sync_entry()
                self._entry_is_durable = True
        except StoreError:
            with self._state:
                lost = self._map.unsaved_blocks(numbers)
            self._forget_runs(runs_of(lost))
            raise

    def _commit_flush(self, numbers: list[int], used: list[int]) -> int:
        with self._committing:
            with self._state:
                rows = self._map.rows(sorted({*numbers, *used}))
            self._save(rows, numbers)
            with self._state:
                return self._map.finish_sync(numbers)

    def mark_verified(self) -> None:
        """The whole content was checked against its MD5 and size: flush, and note so durably.

        Raises:
            CacheFull, CacheUnusable: as `flush`; not verified then.
            ValueError: a block's sum is not known, so that not all can have been checked.

        """
        self.flush()
        with self._committing:
            with self._state:
                if not self._map.knows_all_sums:
                    raise ValueError(f"not every block sum of {self.name} is known")
            self._index.save_content(ContentRecord(self.name, self.key, verified=True), [])
            self._verified = True

    def forget_blocks(self, blocks: Iterable[int]) -> None:
        """Give the space of *blocks* back, waiting for writes to them that are going on; their sums stay known.

        Raises:
            CacheFull, CacheUnusable: the index could not be changed; the blocks count as absent all the same.

        """
        self._forget_runs(runs_of(sorted(set(blocks))))

    def _forget_runs(self, runs: Iterable[tuple[int, int]]) -> None:
        for first, end in runs:
            with self._ranges.hold(first, end):
                self._forget_held([(first, end)])

    def _forget_held(self, runs: Sequence[tuple[int, int]]) -> int:
        """Forget runs of blocks that are held, the index first: how many bytes were freed."""
        with self._committing:
            with self._state:
                freed = sum(self._map.forget(first, end) for first, end in runs)
                self._forgotten += 1  # after the blocks are absent, before their space goes: see `read`
                numbers = segments_of(runs)
                rows = self._map.rows(numbers)
            self._space.release(self.name, freed)
            if freed:
                self._save(rows, numbers)
        for first, end in runs:
            self._file.punch(first * BLOCK_BYTES, block_range(end - 1, self.size_bytes)[1])
        return freed

    def evictable(self) -> list[tuple[int, int, int]]:
        """(used_ns, segment, bytes) of what may be evicted now, the longest unused first."""
        with self._state:
            return self._map.by_last_use(self.hot)

    def evict(self, segments: Iterable[int]) -> int:
        """Forget those of *segments* that are neither hot nor being written: how many bytes were freed.

        Raises:
            CacheFull, CacheUnusable: as `forget_blocks`.

        """
        runs = [segment_blocks(number, self.size_bytes) for number in segments]
        held = [
            (first, end)
            for first, end in runs
            if not self._is_hot(first, end) and self._ranges.try_hold(first, end)
        ]
        try:
            return self._forget_held(held) if held else 0
        finally:
            for first, end in held:
                self._ranges.release(first, end)

    def evict_whole(self) -> int:
        """Forget all blocks, unless some are hot or being written: how many bytes were freed.

        For file systems that cannot free parts of a file. Raises as `evict`.
        """
        end = len(self.present)
        if self._is_hot(0, end) or not self._ranges.try_hold(0, end):
            return 0
        try:
            freed = self._forget_held([(0, end)])
            self._file.clear()
            return freed
        finally:
            self._ranges.release(0, end)

    def _is_hot(self, first: int, end: int) -> bool:
        hot_first, hot_end = self.hot
        return first < hot_end and hot_first < end

    def drop(self) -> None:
        """Forget everything, sums included, waiting for writes that are going on.

        Raises:
            CacheFull, CacheUnusable: the index could not be changed, or the disk fails; nothing is present all the same.

        """
        with self._flushing, self._ranges.hold(0, len(self.present)), self._committing:
            with self._state:
                self._map.forget_all()
                self._forgotten += 1
                self._verified = False
            self._space.set_cached(self.name, 0)
            self._index.forget_content(self.name)
            self._is_saved = False
            self._file.clear()

    def touch(self, first_block: int, last_block: int) -> None:
        """The blocks from *first_block* to *last_block*, inclusive, were used now; kept with `close`."""
        with self._state:
            self._map.touch(first_block, last_block, self._clock())

    def close(self) -> None:
        """Give back one reference; the last one flushes, keeps the times of use, and closes the file."""
        self._release(self)

    def settle(self) -> None:
        """Bring file and index to rest before closing; called by `CacheDirectory`. Failures are logged."""
        try:
            self._flush(with_use=True)
        except StoreError as error:
            _log.warning("%s: part of it has to be fetched again: %s", self.name, error)
            with self._state:
                unsaved = self._map.unsaved_blocks(range(segment_count(self.size_bytes)))
            with suppress(StoreError):
                self._forget_runs(runs_of(unsaved))

    @property
    def has_changes(self) -> bool:
        """Whether `settle` has something to do."""
        with self._state:
            return self._map.has_changes

    def close_file(self) -> None:
        """Close the file, and remove it if the index knows nothing of it; called by `CacheDirectory`."""
        try:
            if not self._is_saved:
                self._file.remove()
        finally:
            self._file.close()

    def _save(self, rows: Sequence[SegmentRow], numbers: Iterable[int]) -> None:
        """Commit *rows*; if that fails, their segments stay to be flushed."""
        try:
            self._index.save_content(ContentRecord(self.name, self.key, self._verified), rows)
        except StoreError:
            with self._state:
                self._map.undo_sync(numbers)
            raise
        self._is_saved = True


def runs_of(blocks: Iterable[int]) -> list[tuple[int, int]]:
    """Sorted *blocks* as runs [first, end) of neighbours."""
    runs: list[tuple[int, int]] = []
    for block in blocks:
        if runs and runs[-1][1] == block:
            runs[-1] = (runs[-1][0], block + 1)
        else:
            runs.append((block, block + 1))
    return runs


def segments_of(runs: Iterable[tuple[int, int]]) -> list[int]:
    """The segments that *runs* of blocks touch, in order."""
    touched = {
        number for first, end in runs for number in range(first // SEGMENT_BLOCKS, -(-end // SEGMENT_BLOCKS))
    }
    return sorted(touched)
