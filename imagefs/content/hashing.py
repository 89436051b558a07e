"""The whole content's MD5, taken in order while it arrives.

:meth:`Hasher.advance` runs in a worker thread; everything else on trio's thread. At most one advance runs at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

READ_BLOCKS: Final = 4
"""How many blocks are read at once: small enough to stay in the processor's cache between reading and hashing."""


class Hasher:
    """MD5 of blocks ``[0, position)``; ``frontier`` is the first block that may not be hashed yet.

    ``read_run(first, count)`` gives the bytes of whole blocks, or None where one of them cannot be had.
    """

    def __init__(self, block_total: int, read_run: Callable[[int, int], memoryview | None]) -> None:
        self.position = 0
        self.frontier = 0
        self.running = False
        self._block_total = block_total
        self._read_run = read_run
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def finished(self) -> bool:
        """Whether the whole content was hashed."""
        return self.position == self._block_total

    def hexdigest(self) -> str:
        """The MD5 in lower-case hex; of the whole content once :attr:`finished`."""
        return self._md5.hexdigest()

    def advance(self) -> int | None:
        """Hash on to the frontier, which may move meanwhile. Returns a block that could not be read, if any."""
        while self.position < (frontier := self.frontier):
            count = min(READ_BLOCKS, frontier - self.position)
            run = self._read_run(self.position, count)
            if run is None:
                return self.position
            self._md5.update(run)
            self.position += count
        return None
