"""The whole content's MD5, taken in order while it arrives.

:meth:`Hasher.advance` runs in a worker thread; everything else on trio's thread. At most one advance runs at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from imagefs.store.blocks import BLOCK_BYTES

READ_BLOCKS: Final = 16
"""How many blocks are read at once. Hashing them takes a few milliseconds without the interpreter's lock, so that the
wait for it in between does not count."""


class Hasher:
    """MD5 of blocks ``[0, position)``; ``frontier`` is the first block that may not be hashed yet.

    ``read_into(first, count, buffer)`` fills the start of *buffer* with whole blocks and returns that part, or None
    where one of them cannot be had.
    """

    def __init__(
        self, block_total: int, read_into: Callable[[int, int, memoryview], memoryview | None]
    ) -> None:
        self.position = 0
        self.frontier = 0
        self.running = False
        self._block_total = block_total
        self._read_into = read_into
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
        buffer = memoryview(bytearray(min(READ_BLOCKS, self._block_total) * BLOCK_BYTES))
        while self.position < (frontier := self.frontier):
            count = min(READ_BLOCKS, frontier - self.position)
            run = self._read_into(self.position, count, buffer)
            if run is None:
                return self.position
            self._md5.update(run)
            self.position += count
        return None
