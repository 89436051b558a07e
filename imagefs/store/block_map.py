"""Which blocks of a content are there, and what the sums of its blocks are: the state in memory.

Pure bookkeeping without I/O and without a lock: `StoredContent` calls it under its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from imagefs.store.blocks import (
    BLOCK_BYTES,
    SEGMENT_BLOCKS,
    SUM_BYTES,
    block_count,
    pack_flags,
    segment_blocks,
    segment_count,
    unpack_flags,
)

ABSENT: Final = 0
WRITTEN: Final = 1
"""In the file, and lost with the power."""
SYNCING: Final = 2
"""Written before the sync of the file that is running."""
DURABLE: Final = 3
"""In the file for good, and in the index."""


def _changing(before: int, after: int) -> bytes:
    """A table for `bytes.translate` that turns one state into another."""
    return bytes(after if state == before else state for state in range(256))


_BEGIN_SYNC: Final = _changing(WRITTEN, SYNCING)
_SYNC_DONE: Final = _changing(SYNCING, DURABLE)
_SYNC_UNDONE: Final = _changing(SYNCING, WRITTEN)
_CLAIMED: Final = bytes(int(state in (SYNCING, DURABLE)) for state in range(256))
_EXISTING: Final = bytes(int(state != ABSENT) for state in range(256))


class SegmentRow(NamedTuple):
    """What the index keeps about a segment.

    ``present`` and ``known`` are bitmaps as of `pack_flags`; ``sums`` holds 64 sums of 8 bytes, zeros where the
    sum is not known. A sum stays known when its block is evicted. ``used_ns`` is since the epoch.
    """

    number: int
    cached_bytes: int
    used_ns: int
    present: bytes
    known: bytes
    sums: bytes


@dataclass(slots=True)
class _Segment:
    known: bytearray
    sums: bytearray
    used_ns: int = 0


class BlockMap:
    """The state of every block of one content.

    ``present`` has one byte per block, zero where the block is absent. A block's state goes::

        ABSENT ──written──▶ WRITTEN ──a sync begins──▶ SYNCING ──the index has it──▶ DURABLE
           ▲                   ▲                          │                            │
           └────forgotten──────┴──────written again───────┴────────────────────────────┘

    so that a block written or forgotten while a sync runs is never claimed by that sync.
    """

    def __init__(self, size_bytes: int, rows: Iterable[SegmentRow] = ()) -> None:
        self.size_bytes = size_bytes
        self.present = bytearray(block_count(size_bytes))
        self._segments: dict[int, _Segment] = {}
        self._changed: set[int] = set()
        self._touched: set[int] = set()
        for row in rows:
            self._load(row)

    def _load(self, row: SegmentRow) -> None:
        first, end = segment_blocks(row.number, self.size_bytes)
        if row.number < 0 or end <= first:
            return
        segment = _Segment(bytearray(unpack_flags(row.known)), bytearray(row.sums), row.used_ns)
        self._segments[row.number] = segment
        flags = unpack_flags(row.present)[: end - first]
        self.present[first:end] = flags.replace(b"\x01", bytes([DURABLE]))

    def _segment_at(self, number: int) -> _Segment:
        """The segment *number*, made empty where nothing is known about it yet."""
        segment = self._segments.get(number)
        if segment is None:
            segment = _Segment(bytearray(SEGMENT_BLOCKS), bytearray(SEGMENT_BLOCKS * SUM_BYTES))
            self._segments[number] = segment
        return segment

    def sum_of(self, block: int) -> bytes | None:
        """The known sum of *block*, or None."""
        segment = self._segments.get(block // SEGMENT_BLOCKS)
        place = block % SEGMENT_BLOCKS
        if segment is None or not segment.known[place]:
            return None
        return bytes(segment.sums[place * SUM_BYTES : (place + 1) * SUM_BYTES])

    @property
    def knows_all_sums(self) -> bool:
        """Whether the sum of every block is known."""
        known = sum(sum(segment.known) for segment in self._segments.values())
        return known == len(self.present)

    def has(self, first: int, end: int) -> bool:
        """Whether all blocks of [first, end) are present."""
        return self.present.find(ABSENT, first, end) == -1

    def absent_runs(self) -> Iterator[tuple[int, int]]:
        """The runs [first, end) of blocks that are not present, in order."""
        end = 0
        while (first := self.present.find(ABSENT, end)) != -1:
            end = self.present.find(DURABLE, first)
            if end == -1:
                end = len(self.present)
            yield first, end

    def cached_bytes(self, first: int, end: int) -> int:
        """How many bytes of the blocks [first, end) are present."""
        return self._bytes_of(self.present[first:end].translate(_EXISTING), end)

    def _bytes_of(self, flags: bytes | bytearray, end: int) -> int:
        """How many bytes the flagged blocks hold, of which the last flag is for block ``end - 1``."""
        total = flags.count(1) * BLOCK_BYTES
        if flags and flags[-1] and end == len(self.present):
            total -= end * BLOCK_BYTES - self.size_bytes
        return total

    def note_written(self, first: int, sums: Sequence[bytes], now_ns: int) -> None:
        """The blocks from *first* on were written, and have *sums*."""
        joined = b"".join(sums)
        end = first + len(sums)
        self.present[first:end] = bytes([WRITTEN]) * len(sums)
        for number in range(first // SEGMENT_BLOCKS, -(-end // SEGMENT_BLOCKS)):
            base = number * SEGMENT_BLOCKS
            low, high = max(first, base), min(end, base + SEGMENT_BLOCKS)
            segment = self._segment_at(number)
            segment.known[low - base : high - base] = b"\x01" * (high - low)
            segment.sums[(low - base) * SUM_BYTES : (high - base) * SUM_BYTES] = joined[
                (low - first) * SUM_BYTES : (high - first) * SUM_BYTES
            ]
            segment.used_ns = now_ns
            self._changed.add(number)

    def touch(self, first_block: int, last_block: int, now_ns: int) -> None:
        """The blocks from *first_block* to *last_block*, inclusive, were used."""
        for number in range(first_block // SEGMENT_BLOCKS, last_block // SEGMENT_BLOCKS + 1):
            segment = self._segments.get(number)
            if segment is not None:
                segment.used_ns = now_ns
                self._touched.add(number)

    def take_touched(self) -> list[int]:
        """The segments used since they were last saved, which counts as saved from now on."""
        touched, self._touched = self._touched, set()
        return sorted(touched)

    @property
    def has_changes(self) -> bool:
        """Whether a segment has blocks or sums that the index does not have yet."""
        return bool(self._changed)

    def begin_sync(self) -> list[int]:
        """The segments with changes; their written blocks count as syncing from now on."""
        numbers = sorted(self._changed)
        self._changed.clear()
        self._translate(numbers, _BEGIN_SYNC)
        return numbers

    def finish_sync(self, numbers: Iterable[int]) -> int:
        """The index has the syncing blocks of the segments: how many became durable."""
        count = 0
        for number in numbers:
            first, end = segment_blocks(number, self.size_bytes)
            count += self.present.count(SYNCING, first, end)
        self._translate(numbers, _SYNC_DONE)
        return count

    def undo_sync(self, numbers: Iterable[int]) -> None:
        """The index could not be written: the segments have changes still."""
        self._translate(numbers, _SYNC_UNDONE)
        self._changed.update(numbers)

    def unsaved_blocks(self, numbers: Iterable[int]) -> list[int]:
        """The blocks of the segments that are present and not durable."""
        return [
            block
            for number in numbers
            for block in range(*segment_blocks(number, self.size_bytes))
            if self.present[block] in (WRITTEN, SYNCING)
        ]

    def forget(self, first: int, end: int) -> int:
        """The blocks [first, end) are no longer there, their sums are known still: the bytes that they held."""
        freed = self.cached_bytes(first, end)
        self.present[first:end] = bytes(end - first)
        return freed

    def forget_all(self) -> None:
        """Nothing is there and no sum is known."""
        self.present[:] = bytes(len(self.present))
        self._segments.clear()
        self._changed.clear()
        self._touched.clear()

    def rows(self, numbers: Iterable[int]) -> list[SegmentRow]:
        """The index rows of the segments; syncing blocks count as there, merely written ones do not."""
        return [self._row(number) for number in numbers]

    def _row(self, number: int) -> SegmentRow:
        segment = self._segment_at(number)
        first, end = segment_blocks(number, self.size_bytes)
        claimed = self.present[first:end].translate(_CLAIMED)
        return SegmentRow(
            number,
            self._bytes_of(claimed, end),
            segment.used_ns,
            pack_flags(claimed),
            pack_flags(segment.known),
            bytes(segment.sums),
        )

    def by_last_use(self, hot: tuple[int, int]) -> list[tuple[int, int, int]]:
        """(used_ns, number, cached bytes) of the segments that hold something and no block of *hot*, oldest first."""
        segments = []
        for number in range(segment_count(self.size_bytes)):
            first, end = segment_blocks(number, self.size_bytes)
            if first < hot[1] and hot[0] < end:
                continue
            held_bytes = self.cached_bytes(first, end)
            if held_bytes:
                segments.append((self._segment_at(number).used_ns, number, held_bytes))
        return sorted(segments)

    def _translate(self, numbers: Iterable[int], table: bytes) -> None:
        for number in numbers:
            first, end = segment_blocks(number, self.size_bytes)
            self.present[first:end] = self.present[first:end].translate(table)
