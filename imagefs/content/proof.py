"""Whether a content is right as a whole: its MD5, taken while it arrives, held against the service's.

Used by :class:`imagefs.content.content.Content`, on trio's thread; the hashing itself is done in a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from imagefs.content.background import Background
from imagefs.content.blockmap import ABSENT, READY, BlockMap
from imagefs.content.blocks import Blocks
from imagefs.content.hashing import Hasher
from imagefs.content.planning import Need
from imagefs.content.waiters import Waiter

DEMANDED_BLOCKS: Final = 128
"""How much of what is to be hashed next is fetched with priority while a reader waits for the proof."""

WANTED_BLOCKS: Final = 512
"""How much of it is fetched ahead of the hashing at all."""


class Proof:
    """Hashes from the front as far as the content is ready, and compares at the end.

    *jobs* are the content's background tasks. ``progressed()`` is called as it goes on, ``found_right()`` and
    ``found_wrong(md5)`` at the end. Where the service gave no checksum, all that arrives is right.
    """

    def __init__(  # noqa: PLR0913  # all by name
        self,
        *,
        checksum: str | None,
        verified: bool,
        blocks: Blocks,
        block_map: BlockMap,
        jobs: Background,
        threads: trio.CapacityLimiter,
        progressed: Callable[[], None],
        found_right: Callable[[], None],
        found_wrong: Callable[[str], None],
    ) -> None:
        self.found = verified or blocks.size_bytes == 0
        self._checksum = checksum
        self._blocks = blocks
        self._map = block_map
        self._jobs = jobs
        self._threads = threads
        self._progressed = progressed
        self._found_right = found_right
        self._found_wrong = found_wrong
        self._hasher = Hasher(blocks.size_bytes, blocks.read)
        self._stopped = False

    def is_awaited_by(self, waiter: Waiter) -> bool:
        """Whether *waiter* has to wait for the proof still."""
        return waiter.proof and not self.found

    @property
    def unhashed(self) -> tuple[int, int]:
        """The blocks known to be here and not hashed yet, half-open."""
        if self.found:
            return 0, 0
        return self._hasher.position, max(self._hasher.position, self._hasher.frontier)

    def lacks(self, state: int) -> bool:
        """Whether any blocks that were not hashed yet are in *state*."""
        return self._map.count(self._hasher.position, self._map.total, state) > 0

    def need(self, reach_blocks: int) -> Need:
        """What to fetch next for the proof: the blocks not hashed yet, in order, *reach_blocks* at most."""
        position, total = self._hasher.position, self._map.total
        demanded = min(total, position + min(DEMANDED_BLOCKS, reach_blocks))
        return Need(position, demanded, min(total, position + min(WANTED_BLOCKS, reach_blocks)))

    def go_on(self) -> None:
        """Let the hasher go on over what is ready in front of it."""
        if self.found or self._stopped:
            return
        hasher = self._hasher
        hasher.frontier = self._map.end_of_ready(max(hasher.frontier, hasher.position))
        if hasher.frontier > hasher.position and not hasher.running:
            hasher.running = True
            self._jobs.start(self._hash, hasher)

    def stop(self) -> None:
        """Hash no more. What was found no longer counts, and a hash that is being taken is dropped."""
        self.found = False
        self._stopped = True
        self._hasher.stop()

    def start_over(self) -> None:
        """Hash from the beginning again, as all bytes are fetched anew. To be called when nothing is being hashed."""
        self._hasher = Hasher(self._blocks.size_bytes, self._blocks.read)
        self._stopped = False

    async def _hash(self, hasher: Hasher) -> None:
        try:
            gone = await trio.to_thread.run_sync(hasher.advance, limiter=self._threads)
        finally:
            hasher.running = False
        if self._stopped:
            return
        for block in gone:
            self._map.replace(block, block + 1, READY, ABSENT)
        if gone:
            hasher.frontier = hasher.position
        if not hasher.finished:
            self._progressed()
        elif self._checksum is None or hasher.hexdigest() == self._checksum:
            self.found = True
            self._found_right()
        else:
            self._found_wrong(hasher.hexdigest())
