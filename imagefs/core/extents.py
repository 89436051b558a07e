"""Sets of half-open intervals: which parts of something are there, asked for or missing.

Used wherever offsets or block numbers are tracked. An `ExtentSet` is a plain value without a lock: whoever
shares one between threads guards it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Extent = tuple[int, int]
"""A half-open interval [start, end)."""


class ExtentSet:
    """A set of integers, kept as sorted, disjoint, coalesced half-open intervals::

        offset      0    5    10   15   20   25
                    |    |    |    |    |    |
        add         .....#####................     add(5, 10)
        add         ...............####.......     add(15, 19)
        add         ..........#####...........     add(10, 15) touches both: all become one
        result      .....##############.......     [(5, 19)]
        remove      ........#####.............     remove(8, 13)
        result      .....###.....######.......     [(5, 8), (13, 19)]

    Intervals that overlap or touch are one. Each method finds its place among n intervals in
    O(log n) steps, and costs the k intervals it returns or replaces (and a list's shift where k changes).
    An interval with ``start == end`` is empty and changes nothing; ``start > end`` raises `ValueError`.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self, extents: Iterable[Extent] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in extents:
            self.add(start, end)

    def add(self, start: int, end: int) -> None:
        """Add [start, end), joining it with every interval that it overlaps or touches."""
        _check(start, end)
        if start == end:
            return
        low = bisect_left(self._ends, start)
        high = bisect_right(self._starts, end)
        if low < high:
            start = min(start, self._starts[low])
            end = max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take [start, end) out, cutting the intervals that reach over its edges."""
        _check(start, end)
        low, high = self._overlapping(start, end)
        if low >= high:
            return
        kept = [(self._starts[low], start), (end, self._ends[high - 1])]
        kept = [(kept_start, kept_end) for kept_start, kept_end in kept if kept_start < kept_end]
        self._starts[low:high] = [kept_start for kept_start, _ in kept]
        self._ends[low:high] = [kept_end for _, kept_end in kept]

    def covers(self, start: int, end: int) -> bool:
        """Whether all of [start, end) is in the set; true for an empty interval."""
        _check(start, end)
        if start == end:
            return True
        place = bisect_right(self._starts, start) - 1
        return place >= 0 and end <= self._ends[place]

    def intersection(self, start: int, end: int) -> list[Extent]:
        """The parts of [start, end) that are in the set, in order."""
        _check(start, end)
        low, high = self._overlapping(start, end)
        return [(max(start, self._starts[i]), min(end, self._ends[i])) for i in range(low, high)]

    def gaps(self, start: int, end: int) -> list[Extent]:
        """The parts of [start, end) that are not in the set, in order."""
        missing = []
        position = start
        for covered_start, covered_end in self.intersection(start, end):
            if position < covered_start:
                missing.append((position, covered_start))
            position = covered_end
        if position < end:
            missing.append((position, end))
        return missing

    @property
    def total_bytes(self) -> int:
        """How many integers the set holds: bytes where the intervals are offsets."""
        return sum(self._ends) - sum(self._starts)

    def _overlapping(self, start: int, end: int) -> Extent:
        """The slice of intervals that share at least one integer with [start, end)."""
        if start == end:
            return 0, 0
        return bisect_right(self._ends, start), bisect_left(self._starts, end)

    def __iter__(self) -> Iterator[Extent]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __len__(self) -> int:
        return len(self._starts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExtentSet):
            return NotImplemented
        return self._starts == other._starts and self._ends == other._ends

    __hash__ = None  # type: ignore[assignment]  # mutable, like set

    def __repr__(self) -> str:
        return f"ExtentSet({list(self)!r})"


def _check(start: int, end: int) -> None:
    if start > end:
        raise ValueError(f"an extent cannot end before it starts: [{start}, {end})")
