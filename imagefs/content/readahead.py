"""How far ahead of a reader to fetch. Pure policy, one instance per open handle, on trio's thread."""

from __future__ import annotations

from typing import Final

MIB: Final = 1 << 20

SLACK_BYTES: Final = 4 * MIB
"""How far a read may lie from where the last one ended and still continue it: the kernel keeps several
readahead requests in flight and they arrive in any order."""

SETTLED_BYTES: Final = MIB // 2
"""A reader that has read this much in one run is taken for a sequential one. Below that nothing is read ahead, so that
a look at a header costs a header."""

RESTLESS_JUMPS: Final = 16
"""A reader that has jumped so often is expected to go on jumping. A look at an image's parts takes fewer jumps."""

MAX_WINDOW_BYTES: Final = 128 * MIB


class Readahead:
    """Tells sequential readers from random ones, and how far ahead of a sequential one to fetch.

    The window equals what the reader has read in one run, so it doubles as long as the reader goes on, and
    what is fetched in vain is never more than what was read.
    """

    def __init__(self) -> None:
        self.position = 0
        self._run_bytes = 0
        self._jumps = 0

    def note(self, offset: int, length: int) -> None:
        """Take account of a read of *length* bytes at *offset*."""
        end = offset + length
        if abs(offset - self.position) <= SLACK_BYTES:
            if end > self.position:
                self._run_bytes += min(length, end - self.position)
                self.position = end
            if self._run_bytes >= SETTLED_BYTES:
                self._jumps = 0
        else:
            self._jumps += 1
            self._run_bytes = length
            self.position = end

    @property
    def window_bytes(self) -> int:
        """How many bytes past :attr:`position` are worth fetching now; 0 for a reader that jumps about."""
        if self._run_bytes < SETTLED_BYTES:
            return 0
        return min(self._run_bytes, MAX_WINDOW_BYTES)

    @property
    def restless(self) -> bool:
        """Whether the reader jumps about, and has done so for a while."""
        return self._jumps >= RESTLESS_JUMPS
