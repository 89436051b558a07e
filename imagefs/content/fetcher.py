"""Which parts of a content to fetch now, and what becomes of the transfers that do it. On trio's thread.

One :class:`Fetcher` per content. It is told what is needed (:class:`Need`), starts transfers, marks blocks in the
:class:`BlockMap` as they arrive, and retries with backoff. It knows nothing of readers or checksums.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import trio

from imagefs.content.blockmap import ABSENT, COMING, READY, BlockMap
from imagefs.content.blocks import Blocks
from imagefs.content.link import Link
from imagefs.content.readahead import MIB
from imagefs.content.settings import ContentSettings
from imagefs.content.transfer import Retriever, Transfer
from imagefs.errors import (
    ContentWrong,
    ImageChanged,
    ImagefsError,
    Overloaded,
    RefusedUnknownImage,
    TlsFailure,
    TransferBroken,
    TransferStalled,
    Unreachable,
)
from imagefs.store.blocks import BLOCK_BYTES

logger = logging.getLogger(__name__)

HEADER_BLOCKS: Final = MIB // BLOCK_BYTES
"""A look at the start of an image fetches this much: what ``file``, ``qemu-img info`` and icons read."""

ENDING_BYTES: Final = 4 * MIB
"""A transfer with less than this to come no longer counts as one: the next is asked for while it ends."""

_BROKEN: Final = (TransferBroken, TransferStalled)
_RETRIED: Final = (Unreachable, Overloaded, *_BROKEN)


@dataclass(frozen=True, slots=True)
class Need:
    """Blocks ``[first, demanded)`` are waited for, and ``[demanded, wanted)`` will be soon."""

    first: int
    demanded: int
    wanted: int


class Owner(Protocol):
    """What the content does with what the fetcher reports."""

    def needs(self) -> list[Need]: ...
    def blocks_arrived(self, fresh: int) -> None: ...
    def fetch_delayed(self, error: Exception) -> None: ...
    def fetch_failed(self, error: Exception) -> None: ...
    def out_of_sources(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Service:
    """What all contents share: the way to the service and to this process's threads and loop.

    ``spawn`` starts a background task; ``post`` calls a function on trio's thread from any other, in order.
    """

    retriever: Retriever
    link: Link
    spawn: Callable[..., None]
    post: Callable[..., None]
    clock: Callable[[], float]
    transfer_threads: trio.CapacityLimiter
    disk_threads: trio.CapacityLimiter
    hash_threads: trio.CapacityLimiter
    note_error: Callable[[str, str], None]
    settings: ContentSettings = field(default_factory=ContentSettings)


class Fetcher:
    """Keeps as many transfers going as what is needed asks for."""

    def __init__(self, service: Service, blocks: Blocks, block_map: BlockMap, owner: Owner) -> None:
        self._service = service
        self._blocks = blocks
        self._map = block_map
        self._owner = owner
        self._transfers: set[Transfer] = set()
        self._idle = trio.Event()
        self._idle.set()
        self._sources: list[str] = []
        self._failures = 0
        self._gave_up = False
        self._retry_at = 0.0
        self.halted = False

    def add_source(self, image_id: str) -> None:
        """The content may be fetched from this image."""
        if image_id not in self._sources:
            self._sources.append(image_id)

    def remove_source(self, image_id: str) -> None:
        """The image is gone, or has other content by now."""
        if image_id in self._sources:
            self._sources.remove(image_id)

    @property
    def has_source(self) -> bool:
        """Whether there is any image left to fetch from."""
        return bool(self._sources)

    @property
    def transfers(self) -> frozenset[Transfer]:
        """Those under way."""
        return frozenset(self._transfers)

    async def halt(self) -> None:
        """Start nothing more, stop what is under way and wait for its end. What arrived stays."""
        self.halted = True
        self.stop_all()
        await self._idle.wait()

    def stop_all(self) -> None:
        """Stop every transfer under way."""
        for transfer in self._transfers:
            transfer.stop()

    def plan(self) -> None:
        """Start what is needed and nobody fetches yet."""
        if self.halted or self._service.clock() < self._retry_at:
            return
        needs = self._owner.needs()
        if self._gave_up or self._failures >= self._service.settings.answer_tries:
            needs = [Need(need.first, need.demanded, need.demanded) for need in needs]
        for need in sorted(needs, key=lambda need: need.demanded == need.first):
            if not self._sources:
                break
            if self._service.link.ranged is False:
                self._plan_stream(need)
            else:
                self._plan_ranges(need)

    def _plan_ranges(self, need: Need) -> None:
        link = self._service.link
        first, demanded = need.first, need.demanded
        if first < min(demanded, HEADER_BLOCKS):
            first, demanded = 0, min(max(demanded, HEADER_BLOCKS), self._map.total)
        wanted = max(need.wanted, demanded)
        connections = 1 if self._blocks.cache_failed else link.connections
        largest = max(1, min(link.segment_bytes // BLOCK_BYTES, (wanted - first) // connections))
        for start, end in self._map.absent_runs(first, wanted):
            at = start
            while at < end:
                if link.ranged is None and self._transfers:
                    return  # the first answer tells what the server can do
                stop = min(end, max(at + largest, min(demanded, at + link.segment_bytes // BLOCK_BYTES)))
                whole_gap = stop == end and (end < wanted or end == self._map.total)
                if at >= demanded and not self._worth_starting(stop - at, whole_gap, connections):
                    return
                self._start(at, stop)
                at = stop

    def _worth_starting(self, count: int, whole_gap: bool, connections: int) -> bool:
        """Whether to start a readahead of *count* blocks: not too many at once, and not in dribbles."""
        busy = sum(transfer.remaining * BLOCK_BYTES > ENDING_BYTES for transfer in self._transfers)
        ending = len(self._transfers) - busy
        if busy >= connections or ending > connections:
            return False
        return whole_gap or not self._transfers or count >= HEADER_BLOCKS

    def _plan_stream(self, need: Need) -> None:
        """Without Range: one stream from the front, run as far as the need goes."""
        absent = next(self._map.absent_runs(need.first, need.wanted), None)
        if absent is None:
            return
        streams = [t for t in self._transfers if not t.stopped and (not t.ranged or t.opened_at is None)]
        for stream in streams:
            if stream.opened_at is None:
                return
            if stream.mark <= absent[0]:
                stream.set_limit(max(stream.limit, need.wanted))
                return
        if need.demanded > need.first:
            self._start(absent[0], need.wanted)

    def _start(self, first: int, end: int) -> None:
        transfer = Transfer(
            image_id=self._sources[0],
            size_bytes=self._blocks.size_bytes,
            first=first,
            end=end,
            retriever=self._service.retriever,
            sink=self._sink,
            events=self,
            post=self._post,
            paused_s=self._service.settings.paused_s,
        )
        self._map.replace(first, end, ABSENT, COMING)
        self._transfers.add(transfer)
        if self._idle.is_set():
            self._idle = trio.Event()
        self._service.spawn(self._run, transfer)

    async def _run(self, transfer: Transfer) -> None:
        """The task of a transfer. It is cancelled only at the end of the mount, which does not wait for the service."""
        try:
            await trio.to_thread.run_sync(
                transfer.run, abandon_on_cancel=True, limiter=self._service.transfer_threads
            )
        except trio.Cancelled:
            transfer.stop()
            raise
        except Exception as error:  # no thread to be had
            lost = TransferBroken(f"Image {transfer.image_id} cannot be fetched now: {error}.")
            self._guarded(self.ended, transfer, lost)

    def _post(self, function: Callable[..., None], *args: object) -> None:
        """Call *function* on trio's thread; from any thread."""
        self._service.post(self._guarded, function, *args)

    def _guarded(self, function: Callable[..., None], *args: object) -> None:
        """Call *function*; a bug in it fails the readers, but not the loop that all mounts' tasks run in."""
        try:
            function(*args)
        except Exception as error:
            logger.exception("A bug in fetching content.")
            self._owner.fetch_failed(error)

    def _sink(self, first: int, data: memoryview, sums: Sequence[bytes]) -> None:
        dropped = self._blocks.write(first, data, sums)
        if dropped:
            self._post(self._dropped, dropped)

    def _dropped(self, blocks: list[int]) -> None:
        for block in blocks:
            self._map.set(block, block + 1, ABSENT)

    # What transfers report:

    def opened(self, transfer: Transfer, ranged: bool, first: int, end: int) -> None:
        """The answer has begun; without Range it is the whole content, whatever was asked for."""
        transfer.opened_at = self._service.clock()
        self._service.link.ranged = ranged
        if not ranged:
            asked_first, asked_end = transfer.first, transfer.end
            self._map.replace(asked_first, asked_end, COMING, ABSENT)
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
        if fresh:  # a stream that started over has to get further than the last one
            self._failures = 0
            self._gave_up = False
        self._map.replace(first, first + count, ABSENT, READY)
        self._map.replace(first, first + count, COMING, READY)
        sample = transfer.rate_sample(self._service.clock())
        if sample is not None:
            self._service.link.note_rate(*sample)
        self._owner.blocks_arrived(fresh)
        if transfer.ranged and transfer.remaining * BLOCK_BYTES <= ENDING_BYTES and not transfer.ending:
            transfer.ending = True
            self.plan()

    def ended(self, transfer: Transfer, error: Exception | None) -> None:
        """The transfer is over; with *error* where it was not stopped and did not reach its end."""
        self._transfers.discard(transfer)
        if transfer.ranged:
            self._map.replace(transfer.mark, transfer.end, COMING, ABSENT)
        if not self._transfers:
            self._idle.set()
        if self.halted:
            return
        if error is not None:
            self._failed(transfer, error)
        if not self._sources:
            self._owner.out_of_sources()
        self.plan()

    def _failed(self, transfer: Transfer, error: Exception) -> None:
        image_id = transfer.image_id
        self._service.note_error(image_id, str(error))
        if isinstance(error, RefusedUnknownImage):
            self.remove_source(image_id)
            return
        if self._service.clock() >= self._retry_at:  # those that fail together count once
            self._failures += 1
        tried_enough = isinstance(error, _BROKEN) and self._failures >= self._service.settings.answer_tries
        if tried_enough or isinstance(error, TlsFailure) or not isinstance(error, _RETRIED):
            self._give_up(image_id, error)
        else:
            self._retry_later(image_id, error)

    def _give_up(self, image_id: str, error: Exception) -> None:
        """Fail who waits. Nothing is read ahead until something arrives again."""
        if isinstance(error, (ContentWrong, ImageChanged)):
            logger.warning("%s", error)
        else:
            logger.warning("Image %s cannot be fetched: %s", image_id, error, exc_info=_bug(error))
        self._failures = 0
        self._gave_up = True
        self._owner.fetch_failed(error)

    def _retry_later(self, image_id: str, error: Exception) -> None:
        settings = self._service.settings
        longest = settings.backoff_s[min(self._failures, len(settings.backoff_s)) - 1]
        pause_s = longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
        if isinstance(error, Overloaded) and error.retry_after_s is not None:
            pause_s = max(pause_s, min(error.retry_after_s, settings.retry_after_most_s))
        logger.info("Image %s: %s Trying again in %.1f s.", image_id, error, pause_s)
        self._retry_at = max(self._retry_at, self._service.clock() + pause_s)
        self._owner.fetch_delayed(error)
        self._service.spawn(self._plan_after, pause_s)

    async def _plan_after(self, pause_s: float) -> None:
        await trio.sleep(pause_s)
        self._guarded(self.plan)


def _bug(error: Exception) -> Exception | None:
    """*error* if the log should show its traceback: a bug, not an answer."""
    return None if isinstance(error, ImagefsError) else error
