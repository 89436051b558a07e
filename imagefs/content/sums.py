"""Checksums of blocks that no cache keeps, in little memory. Any thread: each step is one of the interpreter's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from imagefs.store.blocks import SEGMENT_BLOCKS, SUM_BYTES

_UNKNOWN: Final = bytes(SUM_BYTES)
"""Stands for no sum. A block that has this one is merely never compared."""


class Sums:
    """Block numbers to sums, packed: 10 bytes a block, where a dictionary takes 120."""

    def __init__(self) -> None:
        self._of_segment: dict[int, bytearray] = {}

    def note(self, first: int, sums: Sequence[bytes]) -> None:
        """The blocks from *first* on have *sums*."""
        for block, each in enumerate(sums, first):
            number, at = _place(block)
            segment = self._of_segment.get(number)
            if segment is None:
                segment = self._of_segment.setdefault(number, bytearray(SEGMENT_BLOCKS * SUM_BYTES))
            segment[at : at + SUM_BYTES] = each

    def get(self, block: int) -> bytes | None:
        """The sum of *block*, if it is known."""
        number, at = _place(block)
        segment = self._of_segment.get(number)
        known = _UNKNOWN if segment is None else bytes(segment[at : at + SUM_BYTES])
        return None if known == _UNKNOWN else known

    def clear(self) -> None:
        """Forget all."""
        self._of_segment.clear()


def _place(block: int) -> tuple[int, int]:
    """The segment of *block*, and where its sum is in that."""
    return block // SEGMENT_BLOCKS, block % SEGMENT_BLOCKS * SUM_BYTES
