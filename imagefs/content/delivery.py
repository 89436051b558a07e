"""Giving readers their bytes, once these are here and may be delivered. On trio's thread.

Used by :class:`imagefs.content.content.Content`, whose reading methods these are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from imagefs.content.blockmap import ABSENT, COMING, READY, BlockMap
from imagefs.content.blocks import Blocks
from imagefs.content.generations import Generations
from imagefs.content.proof import Proof
from imagefs.content.readahead import MIB
from imagefs.content.reader import Reader
from imagefs.content.surroundings import Surroundings
from imagefs.content.waiters import Waiter, Waiters
from imagefs.store.blocks import BLOCK_BYTES, block_count

DISK_AHEAD_BYTES: Final = 16 * MIB
"""How far ahead of a sequential reader the disk brings what is cached."""


class Delivery:
    """Serves the readers of one content, or lets them wait.

    The block that would complete the delivery of an unproved content is withheld until it is proved. So nobody ever has
    a whole copy of a corrupt transfer, and a program that only looks at the end of an image does not have all of it
    fetched.

    *raise_if_lost* is asked before a waiter sleeps, and *plan* is called to have what it waits for fetched.
    """

    def __init__(
        self,
        around: Surroundings,
        blocks: Blocks,
        block_map: BlockMap,
        proof: Proof,
        generations: Generations,
        waiters: Waiters,
        *,
        raise_if_lost: Callable[[Waiter], None],
        plan: Callable[[], None],
    ) -> None:
        self._around = around
        self._blocks = blocks
        self._map = block_map
        self._proof = proof
        self._generations = generations
        self._waiters = waiters
        self._raise_if_lost = raise_if_lost
        self._plan = plan

    def read_now(self, reader: Reader, offset: int, buffer: memoryview) -> memoryview | None:
        """As :meth:`Content.read_now`."""
        size_bytes = self._blocks.size_bytes
        end = min(offset + len(buffer), size_bytes)
        if end <= offset:
            return buffer[:0]
        first, stop = offset // BLOCK_BYTES, block_count(end)
        if self._is_withheld(reader, first, stop) or self._generations.is_stale(reader):
            return None
        part = buffer[: end - offset]
        if not self._map.all_ready(first, stop):
            return None
        if not self._blocks.read_now(offset, part):
            return None
        self._note(reader, offset, end)
        return part

    async def read(self, reader: Reader, offset: int, length: int) -> bytes | memoryview:
        """As :meth:`Content.read`."""
        size_bytes = self._blocks.size_bytes
        end = min(offset + length, size_bytes)
        if end <= offset:
            return b""
        first, stop = offset // BLOCK_BYTES, block_count(end)
        reader.readahead.note(offset, end - offset)
        while True:
            await self._wait(reader, first, stop, proof=self._is_withheld(reader, first, stop))
            generation = self._generations.number
            found = self._read_now(offset, end - offset)
            if found is None:
                found = await self._read_ready(reader, offset, end - offset)
            if (
                found is not None
                and generation == self._generations.number
                and not self._is_withheld(reader, first, stop)
            ):
                self._generations.raise_if_stale(reader)
                self._note(reader, offset, end)
                return found

    def _is_withheld(self, reader: Reader, first: int, stop: int) -> bool:
        """Whether *reader* has to wait for the proof.

        A reader that got bytes of an earlier generation, since given up, could mix them with others.
        """
        if self._proof.found:
            return False
        return reader.generation < self._generations.number or self._generations.would_complete(first, stop)

    def _read_now(self, offset: int, length: int) -> memoryview | None:
        """*length* ready bytes from *offset*; None where the disk has to be waited for."""
        buffer = memoryview(bytearray(length))
        return buffer if self._blocks.read_now(offset, buffer) else None

    async def _read_ready(self, reader: Reader, offset: int, length: int) -> memoryview | None:
        """*length* ready bytes from the disk; None where blocks are gone, which are absent from then on.

        When cancelled, this leaves the disk, which may hang, to the thread, whose result is dropped. The thread makes
        the buffer, so that those who wait for a thread hold no memory.
        """
        ahead_bytes = length + min(reader.readahead.window_bytes, DISK_AHEAD_BYTES)

        def read_ahead() -> tuple[memoryview, list[int]]:
            buffer = memoryview(bytearray(length))
            return buffer, self._blocks.read_ahead(offset, ahead_bytes, buffer)

        buffer, gone = await trio.to_thread.run_sync(
            read_ahead, abandon_on_cancel=True, limiter=self._around.disk_threads
        )
        for block in gone:
            self._map.replace(block, block + 1, READY, ABSENT)
        return None if gone else buffer

    def _note(self, reader: Reader, offset: int, end: int) -> None:
        """*reader* gets these bytes now: remember that, and read ahead for it."""
        self._around.traffic.read_bytes += end - offset
        first, stop = offset // BLOCK_BYTES, block_count(end)
        if not self._proof.found:
            self._generations.note_delivered(first, stop)
        if reader.went_on(offset, end - offset):
            self._blocks.stored.touch(first, stop - 1)
            self._plan()

    async def _wait(self, reader: Reader, first: int, end: int, *, proof: bool) -> None:
        """Until ``[first, end)`` is ready, and the whole content proved if *proof*."""
        waiter = Waiter(reader, first, end, proof, nearer_at=self._around.clock())
        while True:
            self._generations.raise_if_stale(reader)
            if self.is_ready(waiter):
                return
            self._generations.raise_if_refused()
            self._raise_if_lost(waiter)
            await self._waiters.sleep(waiter, self._plan, needs_service=self.needs_service(waiter))

    def is_ready(self, waiter: Waiter) -> bool:
        """Whether what *waiter* waits for is here."""
        return not self._proof.is_awaited_by(waiter) and self._map.all_ready(waiter.first, waiter.end)

    def needs_service(self, waiter: Waiter) -> bool:
        """Whether something that *waiter* waits for has to come from the service still."""
        return self.lacks(waiter, ABSENT) or self.lacks(waiter, COMING)

    def lacks(self, waiter: Waiter, state: int) -> bool:
        """Whether any blocks that *waiter* waits for, for their own sake or for the proof, are in *state*."""
        if self._map.count(waiter.first, waiter.end, state):
            return True
        return self._proof.is_awaited_by(waiter) and self._proof.lacks(state)
