"""The whole content's MD5, taken in order while it arrives.

:meth:`Hasher.advance` runs in a worker thread; everything else on trio's thread. At most one advance runs at a time.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from imagefs.content.buffers import large_buffer
from imagefs.store.blocks import BLOCK_BYTES, block_count

READ_BLOCKS: Final = 16
"""How many blocks are read at once. Hashing them takes a few milliseconds without the interpreter's lock; beside that,
waiting for the lock in between hardly counts."""

STEP_BLOCKS: Final = 512
"""How many blocks (64 MiB) one advance hashes at most, so that readers who wait for the proof see it go on."""

NICER: Final = -5
"""What a thread's nice value (setpriority(2)) changes by while it hashes. Hashing can keep a whole processor busy. With
no more than its fair share it would fall behind while transfers run, and everybody would wait for it in the end."""


@contextmanager
def _going_first() -> Iterator[None]:
    """Give the calling thread priority where processors are short. Only root may: for others nothing changes."""
    thread = threading.get_native_id()
    before = os.getpriority(os.PRIO_PROCESS, thread)  # in Linux that of a thread
    try:
        os.setpriority(os.PRIO_PROCESS, thread, before + NICER)
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, thread, before)


class Hasher:
    """MD5 of blocks ``[0, position)``; ``frontier`` is the first block that may not be hashed yet.

    ``read(offset, buffer)`` fills *buffer* with the content's bytes from *offset* and returns the numbers of the
    blocks that cannot be had; where there are any, the buffer is worth nothing.
    """

    def __init__(self, size_bytes: int, read: Callable[[int, memoryview], Sequence[int]]) -> None:
        self.position = 0
        self.frontier = 0
        self.running = False
        self._stopped = False
        self._size_bytes = size_bytes
        self._read = read
        self._md5 = hashlib.md5(usedforsecurity=False)

    @property
    def finished(self) -> bool:
        """Whether the whole content was hashed."""
        return self.position == block_count(self._size_bytes)

    def hexdigest(self) -> str:
        """The MD5 in lower-case hex; of the whole content once :attr:`finished`."""
        return self._md5.hexdigest()

    def stop(self) -> None:
        """Nobody needs it any more: a running advance ends with the piece that it is at."""
        self._stopped = True

    def advance(self) -> Sequence[int]:
        """Hash on to the frontier, which may move meanwhile, or for STEP_BLOCKS.

        Returns the blocks that stopped it because they could not be read; none where all went well.
        """
        with _going_first():
            return self._advance()

    def _advance(self) -> Sequence[int]:
        buffer = large_buffer(min(READ_BLOCKS * BLOCK_BYTES, self._size_bytes))
        stop = self.position + STEP_BLOCKS
        while not self._stopped and self.position < (end := min(stop, self.frontier)):
            count = min(READ_BLOCKS, end - self.position)
            start = self.position * BLOCK_BYTES
            run = buffer[: min(count * BLOCK_BYTES, self._size_bytes - start)]
            gone = self._read(start, run)
            if gone:
                return gone
            self._md5.update(run)
            self.position += count
        return ()
