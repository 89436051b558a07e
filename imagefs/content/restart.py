"""Giving up all of a content, to fetch it anew. Used by :class:`imagefs.content.content.Content`, on trio's thread."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import trio

from imagefs.content.background import Background
from imagefs.content.blockmap import ABSENT, BlockMap
from imagefs.content.blocks import Blocks
from imagefs.content.fetcher import Fetcher
from imagefs.content.generations import Generations
from imagefs.content.proof import Proof

LOOK_UP_S: Final = 5.0
"""How long to wait for details that may say that the image has other content by now, so that nothing is fetched in
vain."""


class Restart:
    """Brings the parts of a content back to the start, one after the other.

    *jobs* are the content's background tasks, whose end is waited for; *own_jobs* are for this part alone. *plan* is
    called when all may go on.
    """

    def __init__(  # noqa: PLR0913  # all by name
        self,
        *,
        blocks: Blocks,
        block_map: BlockMap,
        fetcher: Fetcher,
        proof: Proof,
        generations: Generations,
        jobs: Background,
        own_jobs: Background,
        threads: trio.CapacityLimiter,
        plan: Callable[[], None],
    ) -> None:
        self._blocks = blocks
        self._map = block_map
        self._fetcher = fetcher
        self._proof = proof
        self._generations = generations
        self._jobs = jobs
        self._own_jobs = own_jobs
        self._threads = threads
        self._plan = plan

    def begin(self, delivered_sums: dict[int, bytes], looked_up: Collection[trio.Event] = ()) -> None:
        """Forget all bytes. None of them are delivered any more; what readers wait for is soon fetched anew.

        *delivered_sums* are the checksums of blocks that readers got already, to hold the new ones against. Before
        anything is fetched, *looked_up* is waited for a little.
        """
        self._map.set(0, self._map.total, ABSENT)
        self._generations.begin()
        self._proof.stop()
        self._fetcher.halted = True
        self._own_jobs.start(self._start_over, delivered_sums, looked_up)

    @property
    def is_idle(self) -> bool:
        """Whether none is going on."""
        return self._own_jobs.is_idle

    async def idle(self) -> None:
        """Wait until none is going on."""
        await self._own_jobs.idle()

    async def _start_over(self, delivered_sums: dict[int, bytes], looked_up: Collection[trio.Event]) -> None:
        await self._fetcher.halt()
        await self._jobs.idle()
        with trio.move_on_after(LOOK_UP_S):
            for each in looked_up:
                await each.wait()
        try:
            await trio.to_thread.run_sync(self._blocks.drop, limiter=self._threads)
        finally:  # what could not be dropped is found to differ when it arrives again
            self._blocks.expect(delivered_sums)
            self._proof.start_over()
            self._fetcher.halted = False
        self._plan()
