"""Which bytes belong together, where the service has sent different bytes for one content.

A content that turned out wrong, or different from before, is given up and fetched anew: a new generation. A reader that
may hold bytes of a generation that was given up is stale, and gets nothing more. Used by
:class:`imagefs.content.content.Content`, on trio's thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from imagefs.content.failures import again
from imagefs.content.reader import Reader
from imagefs.errors import ContentError, ContentWrong

_DELIVERED: Final = re.compile(rb"\x01")


class Generations:
    """The generation of one content, what readers got of it, and how often it was wrong."""

    def __init__(self, total_blocks: int, wrong_for_s: float, clock: Callable[[], float]) -> None:
        self.number = 0
        self._wrong_for_s = wrong_for_s
        self._clock = clock
        self._delivered = bytearray(total_blocks)
        self._undelivered = total_blocks
        self._stale: tuple[int, ContentError] | None = None
        self._wrongs = 0
        self._refusal = ContentWrong("")
        self._refused_until = 0.0

    # Stale readers

    @property
    def any_stale(self) -> bool:
        """Whether wrong bytes may ever have been delivered."""
        return self._stale is not None

    def is_stale(self, reader: Reader) -> bool:
        """Whether *reader* may hold bytes of a content that was given up."""
        return self._stale is not None and reader.generation <= self._stale[0]

    def raise_if_stale(self, reader: Reader) -> None:
        """Raise the error for *reader* where it is stale."""
        if self._stale is not None and reader.generation <= self._stale[0]:
            raise again(self._stale[1])

    def make_stale(self, last: int, error: ContentError) -> None:
        """Whoever reads of generation *last* or before gets *error* from now on."""
        self._stale = (last, error)

    # What was delivered before it was proved

    def note_delivered(self, first: int, end: int) -> None:
        """A reader got the blocks ``[first, end)`` of this generation."""
        self._undelivered -= self._delivered.count(0, first, end)
        self._delivered[first:end] = b"\1" * (end - first)

    def would_complete(self, first: int, end: int) -> bool:
        """Whether with ``[first, end)`` all blocks of this generation would have been delivered, whoever got them."""
        return self._undelivered == self._delivered.count(0, first, end)

    @property
    def delivered(self) -> list[int]:
        """The blocks of this generation that readers got."""
        return [match.start() for match in _DELIVERED.finditer(self._delivered)]

    def begin(self) -> None:
        """The next generation: nothing of it was delivered yet."""
        self.number += 1
        self._delivered = bytearray(len(self._delivered))
        self._undelivered = len(self._delivered)

    # Wrong again and again

    def was_wrong_again(self) -> bool:
        """The content was wrong just now. Returns whether it was wrong before, and never right since."""
        self._wrongs += 1
        return self._wrongs > 1

    def was_right(self) -> None:
        """The content was right just now."""
        self._wrongs = 0

    def refuse(self, error: ContentWrong) -> None:
        """Do not fetch the content again for a while; whoever waits for it gets *error*."""
        self._wrongs = 0
        self._refusal = error
        self._refused_until = self._clock() + self._wrong_for_s

    def raise_if_refused(self) -> None:
        """Raise ContentWrong while nothing is fetched."""
        if self._clock() < self._refused_until:
            raise ContentWrong(f"{self._refusal} It was fetched twice; try again later.")
