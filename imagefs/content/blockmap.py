"""Where each block of a content stands. Plain state on trio's thread; all searches run at C speed.

A block is, in this order::

    ABSENT --> COMING --> READY        fetched by this mount
    UNCHECKED -> CHECKING -> READY     found on disk at the start, its checksum compared at the first read
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

ABSENT: Final = 0
COMING: Final = 1
UNCHECKED: Final = 2
CHECKING: Final = 3
READY: Final = 4

_AS_FOUND: Final = bytes((ABSENT, *[UNCHECKED] * 255))
_ABSENT_RUN: Final = re.compile(rb"\x00+")
_UNCHECKED_RUN: Final = re.compile(rb"\x02+")
_NOT_READY: Final = re.compile(rb"[^\x04]")


class BlockMap:
    """The states of all blocks; ranges are half-open. *present* has a zero for each block that is not on disk."""

    def __init__(self, present: bytes) -> None:
        self.total = len(present)
        self._states = bytearray(present.translate(_AS_FOUND))

    def set(self, first: int, end: int, state: int) -> None:
        """Put all of ``[first, end)`` into *state*."""
        self._states[first:end] = bytes((state,)) * (end - first)

    def replace(self, first: int, end: int, old: int, new: int) -> None:
        """Put those of ``[first, end)`` that are in state *old* into *new*."""
        self._states[first:end] = self._states[first:end].replace(bytes((old,)), bytes((new,)))

    def count(self, first: int, end: int, state: int) -> int:
        """How many of ``[first, end)`` are in *state*."""
        return self._states.count(state, first, end)

    def all_ready(self, first: int, end: int) -> bool:
        """Whether each of ``[first, end)`` can be delivered as it is."""
        return self._states.count(READY, first, end) == end - first

    def absent_runs(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The maximal runs of ``[first, end)`` that nobody fetches yet."""
        return (match.span() for match in list(_ABSENT_RUN.finditer(self._states, first, end)))

    def unchecked_runs(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The maximal runs of ``[first, end)`` whose checksums were not compared yet."""
        return (match.span() for match in list(_UNCHECKED_RUN.finditer(self._states, first, end)))

    def end_of_ready(self, first: int) -> int:
        """The end of the run of READY blocks that starts at *first*."""
        match = _NOT_READY.search(self._states, first)
        return self.total if match is None else match.start()
