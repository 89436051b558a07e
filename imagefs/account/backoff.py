"""Pauses between attempts. Used by whatever of the account asks the service again, on trio's thread."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random


def growing_pauses(first_s: float, max_s: float, random: Random) -> Iterator[float]:
    """Seconds without end: up to *first_s*, then twice that, up to *max_s*; up to half of each is random."""
    longest_s = first_s
    while True:
        yield longest_s * random.uniform(0.5, 1.0)
        longest_s = min(2 * longest_s, max_s)
