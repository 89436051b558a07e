"""What the readers of one content need, now and soon. On trio's thread.

Used by :class:`imagefs.content.content.Content`, which has it checked, fetched and kept in the cache.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from imagefs.content.blockmap import BlockMap
from imagefs.content.blocks import MEMORY_BLOCKS, Blocks
from imagefs.content.generations import Generations
from imagefs.content.planning import Need
from imagefs.content.proof import Proof
from imagefs.content.reader import Reader
from imagefs.content.waiters import Waiter
from imagefs.store.blocks import BLOCK_BYTES, block_count


class Demand:
    """Brings together who reads, who waits and what the proof lacks; *readers* and *waiters* come and go."""

    def __init__(
        self,
        readers: Collection[Reader],
        waiters: Iterable[Waiter],
        block_map: BlockMap,
        blocks: Blocks,
        proof: Proof,
        generations: Generations,
    ) -> None:
        self._readers = readers
        self._waiters = waiters
        self._map = block_map
        self._blocks = blocks
        self._proof = proof
        self._generations = generations

    def needs(self) -> list[Need]:
        """What the waiters wait for, the other readers will want, and the proof takes if one waits for it."""
        waiters = list(self._waiters)
        needs = [
            Need(
                waiter.first,
                waiter.end,
                max(waiter.end, self._wanted_end(waiter.reader)),
                restless=waiter.reader.readahead.restless,
            )
            for waiter in waiters
            if not self._map.all_ready(waiter.first, waiter.end)
        ]
        waiting = {waiter.reader for waiter in waiters}
        for reader in self._readers:
            if reader in waiting or self._generations.is_stale(reader):
                continue
            position = reader.readahead.position // BLOCK_BYTES
            wanted = self._wanted_end(reader)
            if wanted > position:
                needs.append(Need(position, position, wanted))
        if any(self._proof.is_awaited_by(waiter) for waiter in waiters):
            needs.append(self._proof.need(self._reach_blocks))
        return needs

    def hot(self, needs: Collection[Need]) -> tuple[int, int]:
        """The blocks ``[first, end)`` not to be evicted: read now or soon, by *needs*, or not hashed yet."""
        runs = [(need.first, need.wanted) for need in needs]
        unhashed, frontier = self._proof.unhashed
        if frontier > unhashed:
            runs.append((unhashed, frontier))
        if not runs:
            return 0, 0
        return min(first for first, _ in runs), max(end for _, end in runs)

    @property
    def _reach_blocks(self) -> int:
        """How far ahead anything is worth fetching: what memory can hold, where the cache takes nothing."""
        return MEMORY_BLOCKS // 2 if self._blocks.cache_failed else self._map.total

    def _wanted_end(self, reader: Reader) -> int:
        """The block up to which *reader* should be served without waiting, exclusive."""
        position = reader.readahead.position
        if not reader.readahead.window_bytes:
            return position // BLOCK_BYTES
        window_bytes = min(reader.readahead.window_bytes, self._reach_blocks * BLOCK_BYTES)
        end = min(self._map.total, block_count(position + window_bytes))
        unhashed, _ = self._proof.unhashed
        if self._blocks.cache_failed and unhashed <= position // BLOCK_BYTES < unhashed + MEMORY_BLOCKS:
            end = min(end, unhashed + MEMORY_BLOCKS // 2)  # else memory gives up unhashed blocks
        return end
