"""What has been learned about the connection to the service. Shared by all contents; on trio's thread."""

from __future__ import annotations

import math
from typing import Final

from imagefs.content.readahead import MIB

TARGET_BYTES_PER_S: Final = 400e6
"""As many connections are used as carry this together. Where a single one does, it stays the only one: a second would
only cost CPU time."""

MAX_CONNECTIONS: Final = 8
MIN_SEGMENT_BYTES: Final = MIB
MAX_SEGMENT_BYTES: Final = 64 * MIB
SEGMENT_S: Final = 1.0
"""About how long one request should take at most: a reader who jumps to its end waits no longer."""

SPARE_LATENCIES: Final = 4
"""How much longer a request may take for bytes that nobody asked for, in multiples of the latency."""

MAX_SPARE_BYTES: Final = 16 * MIB


class Link:
    """Whether the service honours Range, and what one connection carries.

    ``ranged`` is None until an answer showed it, and follows the latest answer. ``doubted``: a range was refused since.
    """

    def __init__(self) -> None:
        self.ranged: bool | None = None
        self.doubted = False
        self._rate_bytes_per_s: float | None = None
        self._latency_s: float | None = None

    def note_ranged(self, ranged: bool) -> None:
        """Take account of an answer that honoured the range that was asked for, or sent everything."""
        self.ranged = ranged
        self.doubted = False

    @property
    def whole_if_refused(self) -> bool:
        """Whether to ask for everything where a range is refused; if ranges were honoured, one is tried again first."""
        return self.doubted or not self.ranged

    def note_rate(self, size_bytes: int, elapsed_s: float) -> None:
        """Take account of *size_bytes* that one connection brought in *elapsed_s* without being held back."""
        rate = size_bytes / max(elapsed_s, 1e-6)
        if self._rate_bytes_per_s is None:
            self._rate_bytes_per_s = rate
        else:
            self._rate_bytes_per_s += (rate - self._rate_bytes_per_s) / 2

    def note_latency(self, elapsed_s: float) -> None:
        """Take account of a request whose answer began after *elapsed_s*."""
        if self._latency_s is None:
            self._latency_s = elapsed_s
        else:
            self._latency_s += (elapsed_s - self._latency_s) / 2

    @property
    def spare_bytes(self) -> int:
        """How much more than was asked for to fetch for a reader that jumps about: it waits for each request anyway.

        Until the rate is known, this is enough to learn it.
        """
        if self._rate_bytes_per_s is None or self._latency_s is None:
            return self.segment_bytes
        return min(MAX_SPARE_BYTES, int(self._rate_bytes_per_s * SPARE_LATENCIES * self._latency_s))

    @property
    def connections(self) -> int:
        """How many connections one sequential reader is fed by."""
        if self._rate_bytes_per_s is None:
            return 1
        return max(1, min(MAX_CONNECTIONS, math.ceil(TARGET_BYTES_PER_S / self._rate_bytes_per_s)))

    @property
    def segment_bytes(self) -> int:
        """How much of a content one ranged request asks for at most."""
        if self._rate_bytes_per_s is None:
            return 4 * MIB
        return max(MIN_SEGMENT_BYTES, min(MAX_SEGMENT_BYTES, int(self._rate_bytes_per_s * SEGMENT_S)))
