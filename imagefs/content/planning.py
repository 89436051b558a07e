"""Which transfers to start for what is needed: parallel ranges, or one stream. Policy, on trio's thread.

Used by the :class:`~imagefs.content.fetcher.Fetcher`, which does what is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from imagefs.content.blockmap import BlockMap
from imagefs.content.blocks import Blocks
from imagefs.content.link import Link
from imagefs.content.readahead import MIB
from imagefs.content.transfer import Transfer
from imagefs.store.blocks import BLOCK_BYTES

HEADER_BLOCKS: Final = MIB // BLOCK_BYTES
"""A look at the start of an image fetches this much: what ``file``, ``qemu-img info`` and icons read."""

ENDING_BYTES: Final = 4 * MIB
"""A transfer with less than this to come no longer counts as one: the next is asked for while it ends."""

RESTLESS_TRANSFERS: Final = 3
"""With so many under way, a reader that jumps about gets what it waits for and nothing more: this machine does not keep
up with what arrives unasked for."""


MOST_TRANSFERS: Final = 32
"""How many may be under way for one content, however many readers wait for it: if they do not end, other contents still
need threads."""


@dataclass(frozen=True, slots=True)
class Need:
    """Blocks ``[first, demanded)`` are waited for, and ``[demanded, wanted)`` will be soon.

    *restless*: the reader that waits jumps about, and any block may be next.
    """

    first: int
    demanded: int
    wanted: int
    restless: bool = False

    @property
    def without_readahead(self) -> Need:
        """Only what is waited for."""
        return Need(self.first, self.demanded, self.demanded)


class Planner:
    """Decides which transfers of one content to start.

    *transfers* are those under way, as they come and go; ``start(first, end)`` starts one more, at once.
    """

    def __init__(
        self,
        link: Link,
        blocks: Blocks,
        block_map: BlockMap,
        transfers: Collection[Transfer],
        start: Callable[[int, int], None],
    ) -> None:
        self._link = link
        self._blocks = blocks
        self._map = block_map
        self._transfers = transfers
        self._start = start

    def serve(self, need: Need) -> None:
        """Start what *need* takes and nobody fetches yet."""
        if self._link.ranged is False:
            self._serve_by_stream(need)
        else:
            self._serve_by_ranges(need)

    @property
    def _live(self) -> list[Transfer]:
        """The transfers that bring what they were asked for."""
        return [transfer for transfer in self._transfers if not transfer.stopped]

    def _serve_by_ranges(self, need: Need) -> None:
        link = self._link
        first, demanded = need.first, need.demanded
        if first < min(demanded, HEADER_BLOCKS):
            first, demanded = 0, min(max(demanded, HEADER_BLOCKS), self._map.total)
        wanted = max(need.wanted, demanded)
        if need.restless and len(self._live) < RESTLESS_TRANSFERS:
            wanted = max(wanted, min(demanded + link.spare_bytes // BLOCK_BYTES, self._map.total))
        connections = 1 if self._blocks.cache_failed else link.connections
        largest = max(1, min(link.segment_bytes // BLOCK_BYTES, (wanted - first) // connections))
        for start, end in self._map.absent_runs(first, wanted):
            at = start
            while at < end:
                if len(self._live) >= (1 if link.ranged is None else MOST_TRANSFERS):
                    return  # without knowing, as the first answer tells what the server can do
                stop = min(end, max(at + largest, min(demanded, at + link.segment_bytes // BLOCK_BYTES)))
                whole_gap = stop == end and (end < wanted or end == self._map.total)
                if at >= demanded and not self._worth_starting(stop - at, whole_gap, connections):
                    return
                self._start(at, stop)
                at = stop

    def _worth_starting(self, count: int, whole_gap: bool, connections: int) -> bool:
        """Whether to start a readahead of *count* blocks: not too many at once, and not in dribbles."""
        live = self._live
        busy = sum(transfer.remaining * BLOCK_BYTES > ENDING_BYTES for transfer in live)
        ending = len(live) - busy
        if busy >= connections or ending > connections:
            return False
        return whole_gap or not live or count >= HEADER_BLOCKS

    def _serve_by_stream(self, need: Need) -> None:
        """Without Range: one stream from the front, run as far as the need goes."""
        absent = next(self._map.absent_runs(need.first, need.wanted), None)
        if absent is None:
            return
        streams = [t for t in self._live if not t.ranged or t.opened_at is None]
        for stream in streams:
            if stream.opened_at is None:
                return
            if stream.mark <= absent[0]:
                stream.set_limit(max(stream.limit, need.wanted))
                return
        if need.demanded > need.first:
            self._start(absent[0], need.wanted)
