"""The transfers of one content: started where something is needed, followed, tried again. On trio's thread.

A :class:`Fetcher` asks its owner what is needed, marks blocks in the :class:`BlockMap` as they are requested and
arrive, and reports to its owner. It knows nothing of readers or of the whole content's checksum. Which requests to make
is decided in :mod:`imagefs.content.planning`, and when to try again in :mod:`imagefs.content.retries`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from imagefs.content.blockmap import ABSENT, COMING, READY, BlockMap
from imagefs.content.blocks import Blocks
from imagefs.content.planning import ENDING_BYTES, Need, Planner
from imagefs.content.retries import Retries
from imagefs.content.surroundings import Surroundings
from imagefs.content.transfer import Transfer
from imagefs.core.text import sentence
from imagefs.errors import (
    ContentWrong,
    ImageChanged,
    ImagefsError,
    RangeRefused,
    RefusedUnknownImage,
    TransferBroken,
    without_frames,
)
from imagefs.store.blocks import BLOCK_BYTES

logger = logging.getLogger(__name__)


class Owner(Protocol):
    """What the content does with what the fetcher reports."""

    def needs(self) -> list[Need]: ...
    def blocks_arrived(self, first: int, end: int, fresh: int) -> None: ...
    def fetch_delayed(self, error: Exception, first: int, end: int) -> None: ...
    def fetch_failed(self, error: Exception, first: int, end: int) -> None: ...
    def out_of_sources(self) -> None: ...


class Fetcher:
    """Keeps as many transfers going as are needed."""

    def __init__(self, around: Surroundings, blocks: Blocks, block_map: BlockMap, owner: Owner) -> None:
        self._around = around
        self._blocks = blocks
        self._map = block_map
        self._owner = owner
        self._transfers: set[Transfer] = set()
        self._idle = trio.Event()
        self._idle.set()
        self._sources: list[str] = []
        self._retries = Retries(around.settings, around.clock)
        self._planner = Planner(around.link, blocks, block_map, self._transfers, self._start)
        self.halted = False

    def add_source(self, image_id: str) -> None:
        """The content may be fetched from this image."""
        if not self.has(image_id):
            self._sources.append(image_id)

    def remove_source(self, image_id: str) -> None:
        """The image is gone, or has other content by now."""
        if self.has(image_id):
            self._sources.remove(image_id)

    def try_elsewhere(self, image_id: str | None = None) -> None:
        """Make this image the last to fetch from; without *image_id*, the one that is fetched from now."""
        if image_id is None and self._sources:
            image_id = self._sources[0]
        if image_id is not None and self.has(image_id):
            self._sources.remove(image_id)
            self._sources.append(image_id)

    def doubt_sources(self) -> list[trio.Event]:
        """What came of these images is not what their details say. Each event tells that those were looked up again."""
        return [self._around.doubt(image_id) for image_id in self._sources]

    def has(self, image_id: str) -> bool:
        """Whether the content may be fetched from this image."""
        return image_id in self._sources

    @property
    def has_source(self) -> bool:
        """Whether there is any image left to fetch from."""
        return bool(self._sources)

    @property
    def is_idle(self) -> bool:
        """Whether no transfer is under way."""
        return not self._transfers

    async def halt(self) -> None:
        """Start nothing more, stop what is under way and wait for its end. What arrived stays."""
        self.halted = True
        self.stop_all()
        await self._idle.wait()

    def stop_all(self) -> None:
        """Stop every transfer under way. Their blocks can be fetched again without waiting for answers to begin."""
        for transfer in self._transfers:
            transfer.stop()
            if transfer.opened_at is None:  # else it is aborted at once
                self._release(transfer)

    def plan(self) -> None:
        """Start what is needed and nobody fetches yet."""
        if self.halted or self._retries.pausing:
            return
        needs = self._owner.needs()
        if self._retries.demanded_only:
            needs = [need.without_readahead for need in needs]
        for need in sorted(needs, key=lambda need: need.demanded == need.first):
            if not self._sources:
                break
            self._planner.serve(need)

    # Transfers

    def _start(self, first: int, end: int) -> None:
        transfer = Transfer(
            image_id=self._sources[0],
            size_bytes=self._blocks.size_bytes,
            first=first,
            end=end,
            retriever=self._around.retriever,
            sink=self._sink,
            events=self,
            post=self._post,
            paused_s=self._around.settings.paused_s,
            whole_if_refused=self._around.link.whole_if_refused,
        )
        transfer.asked_at = self._around.clock()
        self._map.replace(first, end, ABSENT, COMING)
        self._transfers.add(transfer)
        if self._idle.is_set():
            self._idle = trio.Event()
        self._around.spawn(self._run, transfer)

    def _release(self, transfer: Transfer) -> None:
        """Others may fetch what *transfer* was to bring."""
        if transfer.claims:
            transfer.claims = False
            self._map.replace(transfer.mark, transfer.end, COMING, ABSENT)

    async def _run(self, transfer: Transfer) -> None:
        """The task of a transfer. It is cancelled only at the end of the mount, which does not wait for the service."""
        try:
            await trio.to_thread.run_sync(
                transfer.run, abandon_on_cancel=True, limiter=self._around.transfer_threads
            )
        except trio.Cancelled:
            transfer.stop()
            raise
        except Exception as error:  # there was no thread
            lost = TransferBroken(f"Image {transfer.image_id} cannot be fetched now: {error}.")
            self._guarded(self.ended, transfer, lost)

    def _post(self, function: Callable[..., None], *args: object) -> None:
        """Call *function* on trio's thread; from any thread."""
        self._around.post(self._guarded, function, *args)

    def _guarded(self, function: Callable[..., None], *args: object) -> None:
        """Call *function*; a bug in it fails the readers, and does not end the mount."""
        try:
            function(*args)
        except Exception as error:
            logger.exception("A bug in fetching content.")
            self._owner.fetch_failed(error, 0, 0)

    def _sink(self, first: int, data: memoryview, sums: Sequence[bytes]) -> None:
        """Take arrived blocks, in the transfer's thread."""
        dropped = self._blocks.write(first, data, sums)
        if dropped:
            self._post(self._dropped, dropped)

    def _dropped(self, blocks: list[int]) -> None:
        for block in blocks:
            self._map.set(block, block + 1, ABSENT)

    # What transfers report

    def opened(self, transfer: Transfer, ranged: bool, first: int, end: int) -> None:
        """The answer has begun; without Range it is the whole content, whatever was asked for."""
        transfer.opened_at = self._around.clock()
        self._around.link.note_latency(transfer.opened_at - transfer.asked_at)
        self._around.link.note_ranged(ranged)
        if not ranged:
            asked_first = transfer.first
            self._release(transfer)
            transfer.ranged = False
            transfer.first = transfer.mark = first
            transfer.end = end
            rivals = (t for t in self._transfers if t is not transfer and not t.ranged and not t.stopped)
            if any(rival.mark <= asked_first for rival in rivals):
                transfer.stop()
        self.plan()

    def arrived(self, transfer: Transfer, first: int, count: int) -> None:
        """Blocks were written, in order."""
        if self.halted:
            return
        fresh = count - self._map.count(first, first + count, READY)
        if fresh:  # a stream that started over counts as progress once it gets further than the last one
            self._retries.arrived()
            self._around.traffic.fetched_bytes += fresh * BLOCK_BYTES
        self._map.replace(first, first + count, ABSENT, READY)
        self._map.replace(first, first + count, COMING, READY)
        sample = transfer.rate_sample()
        if sample is not None:
            self._around.link.note_rate(*sample)
        self._owner.blocks_arrived(first, transfer.end, fresh)
        if transfer.ranged and transfer.remaining * BLOCK_BYTES <= ENDING_BYTES and not transfer.ending:
            transfer.ending = True
            self.plan()

    def ended(self, transfer: Transfer, error: Exception | None) -> None:
        """The transfer is over; with *error* where it was not stopped and did not reach its end."""
        self._transfers.discard(transfer)
        self._release(transfer)
        if not self._transfers:
            self._idle.set()
        if self.halted:
            return
        if error is not None:
            self._failed(transfer, error)
            without_frames(error)
        if not self._sources:
            self._owner.out_of_sources()
        self.plan()

    def _failed(self, transfer: Transfer, error: Exception) -> None:
        image_id = transfer.image_id
        self._around.note_error(image_id, str(error))
        if isinstance(error, RefusedUnknownImage):
            self.remove_source(image_id)
            return
        if isinstance(error, RangeRefused):
            self._around.link.doubted = True
        self.try_elsewhere(image_id)
        pause_s = self._retries.pause_after(
            error, asked_at=transfer.asked_at, elsewhere=len(self._sources) > 1
        )
        is_unlike = isinstance(error, TransferBroken) and (transfer.opened_at is None or pause_s is None)
        if is_unlike or isinstance(error, (ContentWrong, ImageChanged)):
            self._around.doubt(image_id)
        if pause_s is not None:
            logger.info("Image %s: %s Trying again in %.1f s.", image_id, sentence(error), pause_s)
            self._owner.fetch_delayed(error, transfer.mark, transfer.end)
            self._around.spawn(self._plan_after, pause_s)
            return
        if isinstance(error, (ContentWrong, ImageChanged)):
            logger.warning("%s", error)
        else:
            logger.warning("Image %s cannot be fetched: %s", image_id, error, exc_info=_bug(error))
        self._owner.fetch_failed(error, transfer.mark, transfer.end)

    async def _plan_after(self, pause_s: float) -> None:
        await trio.sleep(pause_s)
        self._guarded(self.plan)


def _bug(error: Exception) -> Exception | None:
    """*error* if the log should show its traceback: a bug, not an answer."""
    return None if isinstance(error, ImagefsError) else error
