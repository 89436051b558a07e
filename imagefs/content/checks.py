"""Comparing what was cached before this mount with its checksums, some way ahead of its readers.

Used by :class:`imagefs.content.content.Content`, on trio's thread; the comparing itself is done in worker threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from imagefs.content.background import Background
from imagefs.content.blockmap import ABSENT, CHECKING, READY, UNCHECKED, BlockMap
from imagefs.content.blocks import Blocks
from imagefs.content.planning import Need

CHECK_BLOCKS: Final = 32
"""How many cached blocks one thread checks at a time."""

AHEAD_BLOCKS: Final = 128
"""How far ahead of a reader blocks are checked, at most."""


class Checks:
    """Takes blocks from UNCHECKED over CHECKING to READY, or to ABSENT where they are damaged.

    *jobs* are the content's background tasks; *progressed* is called after each that was not in vain.
    """

    def __init__(
        self,
        blocks: Blocks,
        block_map: BlockMap,
        jobs: Background,
        threads: trio.CapacityLimiter,
        progressed: Callable[[], None],
    ) -> None:
        self._blocks = blocks
        self._map = block_map
        self._jobs = jobs
        self._threads = threads
        self._progressed = progressed

    def go_ahead(self, need: Need) -> None:
        """Check what *need* demands, and a part of what it will want."""
        end = max(need.demanded, min(need.wanted, need.first + AHEAD_BLOCKS))
        for run_first, run_end in self._map.unchecked_runs(need.first, end):
            for first in range(run_first, run_end, CHECK_BLOCKS):
                stop = min(run_end, first + CHECK_BLOCKS)
                self._map.set(first, stop, CHECKING)
                self._jobs.start(self._check, first, stop)

    async def _check(self, first: int, end: int) -> None:
        try:
            damaged = await trio.to_thread.run_sync(self._blocks.check, first, end, limiter=self._threads)
        except BaseException:
            self._map.replace(first, end, CHECKING, UNCHECKED)
            raise
        for block in damaged:
            self._map.set(block, block + 1, ABSENT)
        self._map.replace(first, end, CHECKING, READY)
        self._progressed()
