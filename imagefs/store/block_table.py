"""Which blocks of a content are cached, and what their sums are: the state in memory.

Bookkeeping without I/O, used by `StoredContent` on worker threads; each method is atomic.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from imagefs.store.blocks import (
    BLOCK_BYTES,
    SEGMENT_BLOCKS,
    SUM_BYTES,
    block_count,
    pack_flags,
    segment_blocks,
    segments_of,
    unpack_flags,
)

ABSENT: Final = 0
WRITTEN: Final = 1
"""In the file, but lost if the power fails."""
SYNCING: Final = 2
"""Written before the sync of the file that is running."""
DURABLE: Final = 3
"""In the file for good, so that the index may claim it."""


def _changing(before: int, after: int) -> bytes:
    """A table for `bytes.translate` that turns one state into another."""
    return bytes(after if state == before else state for state in range(256))


_BEGIN_SYNC: Final = _changing(WRITTEN, SYNCING)
_SYNC_DONE: Final = _changing(SYNCING, DURABLE)
_LOADED: Final = _changing(1, DURABLE)
_CLAIMED: Final = bytes(int(state == DURABLE) for state in range(256))
_EXISTING: Final = bytes(int(state != ABSENT) for state in range(256))


class SegmentRow(NamedTuple):
    """What the index keeps about a segment.

    ``present`` and ``known`` are bitmaps as of `pack_flags`; ``sums`` holds 64 sums of 8 bytes, zeros where
    the sum is not known. A sum stays known when its block is evicted. ``used_ns`` is since the epoch.
    """

    number: int
    cached_bytes: int
    used_ns: int
    present: bytes
    known: bytes
    sums: bytes


class SegmentUse(NamedTuple):
    """When a segment that holds something was last used, since the epoch; sorts by that."""

    used_ns: int
    number: int
    cached_bytes: int


@dataclass(slots=True)
class _Segment:
    known: bytearray = field(default_factory=lambda: bytearray(SEGMENT_BLOCKS))
    sums: bytearray = field(default_factory=lambda: bytearray(SEGMENT_BLOCKS * SUM_BYTES))
    used_ns: int = 0


class BlockTable:
    """The state of every block of one content.

    ``present`` has one byte per block, zero where the block is absent. A block's state goes::

        ABSENT ──written──▶ WRITTEN ──a sync begins──▶ SYNCING ──the sync is done──▶ DURABLE
           ▲                   ▲                          │                            │
           └────forgotten──────┴──────written again───────┴────────────────────────────┘

    so that a block written or forgotten while a sync runs is never claimed by that sync. ``generation`` grows whenever
    blocks are forgotten, before their space is given back: a reader of the file that finds the same generation before
    and after has read no hole.
    """

    def __init__(self, size_bytes: int, rows: Iterable[SegmentRow] = ()) -> None:
        self.size_bytes = size_bytes
        self.present = bytearray(block_count(size_bytes))
        self.generation = 0
        self._lock = threading.Lock()
        self._segments: dict[int, _Segment] = {}
        self._changed: set[int] = set()
        self._touched: set[int] = set()
        for row in rows:
            self._load(row)

    def _load(self, row: SegmentRow) -> None:
        first, end = segment_blocks(row.number, self.size_bytes)
        if row.number < 0 or end <= first:
            return
        known = bytearray(unpack_flags(row.known))
        self._segments[row.number] = _Segment(known, bytearray(row.sums), row.used_ns)
        self.present[first:end] = unpack_flags(row.present)[: end - first].translate(_LOADED)

    def has(self, first: int, end: int) -> bool:
        """Whether all blocks of [first, end) are present."""
        return self.present.find(ABSENT, first, end) == -1

    def absent_runs(self) -> Iterator[tuple[int, int]]:
        """The runs [first, end) of blocks that are not present, in order; while nothing changes them."""
        end = 0
        while (first := self.present.find(ABSENT, end)) != -1:
            end = self.present.find(DURABLE, first)
            if end == -1:
                end = len(self.present)
            yield first, end

    def sum_of(self, block: int) -> bytes | None:
        """The known sum of *block*, or None."""
        place = block % SEGMENT_BLOCKS
        with self._lock:
            segment = self._segments.get(block // SEGMENT_BLOCKS)
            if segment is None or not segment.known[place]:
                return None
            return bytes(segment.sums[place * SUM_BYTES : (place + 1) * SUM_BYTES])

    @property
    def knows_all_sums(self) -> bool:
        """Whether the sum of every block is known."""
        with self._lock:
            known = sum(segment.known.count(1) for segment in self._segments.values())
        return known == len(self.present)

    @property
    def knows_any_sum(self) -> bool:
        """Whether the sum of at least one block is known."""
        return bool(self._segments)

    def cached_bytes(self, first: int = 0, end: int | None = None) -> int:
        """How many bytes of the blocks [first, end), by default all, are present."""
        end = len(self.present) if end is None else end
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
        with self._lock:
            for number in segments_of([(first, end)]):
                base = number * SEGMENT_BLOCKS
                low, high = max(first, base), min(end, base + SEGMENT_BLOCKS)
                segment = self._segments.setdefault(number, _Segment())
                segment.known[low - base : high - base] = b"\x01" * (high - low)
                segment.sums[(low - base) * SUM_BYTES : (high - base) * SUM_BYTES] = joined[
                    (low - first) * SUM_BYTES : (high - first) * SUM_BYTES
                ]
                segment.used_ns = now_ns
                self._changed.add(number)
            self.present[first:end] = bytes([WRITTEN]) * len(sums)

    def touch(self, first_block: int, last_block: int, now_ns: int) -> None:
        """The blocks from *first_block* to *last_block*, inclusive, were used."""
        with self._lock:
            for number in segments_of([(first_block, last_block + 1)]):
                if number in self._segments:
                    self._segments[number].used_ns = now_ns
                    self._touched.add(number)

    @property
    def has_changes(self) -> bool:
        """Whether a segment has blocks or sums that the index does not have yet."""
        return bool(self._changed)

    def begin_sync(self) -> list[int]:
        """The segments with changes; their written blocks count as syncing from now on."""
        with self._lock:
            numbers = sorted(self._changed)
            self._changed.clear()
            self._translate(numbers, _BEGIN_SYNC)
            return numbers

    def finish_sync(self, numbers: Iterable[int]) -> int:
        """The sync is done: how many blocks of the segments became durable."""
        with self._lock:
            durable = sum(
                self.present.count(SYNCING, *segment_blocks(number, self.size_bytes)) for number in numbers
            )
            self._translate(numbers, _SYNC_DONE)
            return durable

    def note_unsaved(self, numbers: Iterable[int]) -> None:
        """The segments could not be written to the index: they count as changed again."""
        with self._lock:
            self._changed.update(numbers)

    def take_touched(self) -> list[int]:
        """The segments used since this was last called."""
        with self._lock:
            touched, self._touched = self._touched, set()
            return sorted(touched)

    def unsynced_blocks(self) -> list[int]:
        """The blocks that are present and not durable."""
        with self._lock:
            return [block for block, state in enumerate(self.present) if state in (WRITTEN, SYNCING)]

    def forget(self, runs: Iterable[tuple[int, int]]) -> int:
        """The blocks of *runs* are not there any more, but their sums stay known: how many bytes they held."""
        freed = 0
        with self._lock:
            for first, end in runs:
                freed += self.cached_bytes(first, end)
                self.present[first:end] = bytes(end - first)
            self.generation += 1
        return freed

    def forget_all(self) -> None:
        """Nothing is there and no sum is known."""
        with self._lock:
            self.present[:] = bytes(len(self.present))
            self.generation += 1
            self._segments.clear()
            self._changed.clear()
            self._touched.clear()

    def rows(self, numbers: Iterable[int]) -> list[SegmentRow]:
        """The index rows of those segments of which anything is known; they claim only durable blocks."""
        with self._lock:
            return [self._row(number) for number in numbers if number in self._segments]

    def _row(self, number: int) -> SegmentRow:
        segment = self._segments[number]
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

    def uses(self) -> list[SegmentUse]:
        """The segments that hold any block."""
        uses = []
        with self._lock:
            for number, segment in self._segments.items():
                held_bytes = self.cached_bytes(*segment_blocks(number, self.size_bytes))
                if held_bytes:
                    uses.append(SegmentUse(segment.used_ns, number, held_bytes))
        return uses

    def _translate(self, numbers: Iterable[int], table: bytes) -> None:
        for number in numbers:
            first, end = segment_blocks(number, self.size_bytes)
            self.present[first:end] = self.present[first:end].translate(table)
