"""One content and those who read it: waiters, delivery, proof. On trio's thread.

A content may be that of several images (replicas); whoever opens one of them gets a :class:`Reader` of the same
content. What has arrived and is known to be right is delivered at once; for the rest a reader becomes a waiter.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

import trio

from imagefs.content.background import Background
from imagefs.content.blockmap import ABSENT, COMING, READY, UNCHECKED, BlockMap
from imagefs.content.blocks import MEMORY_BLOCKS, Blocks, Stored
from imagefs.content.fetcher import Fetcher
from imagefs.content.hashing import Hasher
from imagefs.content.planning import Need
from imagefs.content.readahead import MIB, Readahead
from imagefs.content.service import Service
from imagefs.errors import (
    ContentError,
    ContentWrong,
    CredentialsRefused,
    ImageChanged,
    StoreError,
    TransferBroken,
    TransferStalled,
    Unreachable,
)
from imagefs.store.blocks import BLOCK_BYTES, block_count

logger = logging.getLogger(__name__)

TAIL_BYTES: Final = 4096
"""So much of the end of a content is withheld until its MD5 was found right, so that a copy of a corrupt transfer
fails instead of succeeding."""

CHECK_BLOCKS: Final = 32
"""How many cached blocks one thread checks at a time."""

CHECK_AHEAD_BLOCKS: Final = 128

DISK_AHEAD_BYTES: Final = 16 * MIB
"""How far ahead of a sequential reader the disk brings what is cached."""


class Reader:
    """One open handle: where it reads, and of which generation of the content."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.readahead = Readahead()
        self.generation = content.generation
        self.plan_at = 0

    def wanted_end(self) -> int:
        """The block up to which this reader should be served without waiting, exclusive."""
        window_bytes = min(self.readahead.window_bytes, self.content.reach_blocks * BLOCK_BYTES)
        return min(self.content.total, block_count(self.readahead.position + window_bytes))

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """As :meth:`Content.read`."""
        return await self.content.read(self, offset, length)

    def read_now(self, offset: int, buffer: memoryview) -> memoryview | None:
        """As :meth:`Content.read_now`."""
        return self.content.read_now(self, offset, buffer)


@dataclass(eq=False, slots=True)
class _Waiter:
    """Waits until ``[first, end)`` can be delivered; ``proof``: until the whole content was proved."""

    reader: Reader
    first: int
    end: int
    proof: bool
    woken: trio.Event = field(default_factory=trio.Event)
    error: Exception | None = None


class Content:
    """The bytes of one content, in the cache and on their way.

    Raises, from its reading methods, only :class:`ContentError`, :class:`Unreachable` and
    :class:`CredentialsRefused`.
    """

    def __init__(self, stored: Stored, image_id: str, service: Service) -> None:
        self.key = stored.key
        self.size_bytes = stored.size_bytes
        self.total = block_count(stored.size_bytes)
        self.generation = 0
        self.proved = stored.verified or self.size_bytes == 0
        self._image_id = image_id
        self._service = service
        self._stored = stored
        self._map = BlockMap(bytes(stored.present))
        self._blocks = Blocks(stored, image_id)
        self._fetcher = Fetcher(service, self._blocks, self._map, self)
        self._fetcher.add_source(image_id)
        self._hasher = Hasher(self.size_bytes, self._blocks.read)
        self._readers: set[Reader] = set()
        self._waiters: set[_Waiter] = set()
        self._jobs = Background(service.spawn, self._fail)
        self._restarts = Background(service.spawn, self._fail)
        self._progress_at = service.clock()
        self._delivered = bytearray(self.total)
        self._poisoned: tuple[int, ContentError] | None = None
        self._wrongs = 0
        self._last_error: Exception | None = None
        self._timed_out_until = 0.0
        self._wrong_until = 0.0
        self._wrong_text = ""

    # Readers

    def open(self, image_id: str) -> Reader:
        """A new reader, through the given image."""
        self._fetcher.add_source(image_id)
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    def close(self, reader: Reader) -> None:
        """The reader is done. What was being read ahead for it stops; what arrived stays."""
        self._readers.discard(reader)
        if not self._readers:
            self._fetcher.stop_all()
            self._stored.hot = (0, 0)

    @property
    def keepable(self) -> bool:
        """Whether the kernel may keep what it was given over the next open: proved, and never any other."""
        return self.proved and self._poisoned is None

    @property
    def open_readers(self) -> int:
        """How many handles are open."""
        return len(self._readers)

    def vanished(self, image_id: str) -> None:
        """The image is gone from the account; its bytes are still those of the others, and of the cache."""
        self._fetcher.remove_source(image_id)
        self.out_of_sources()

    # Reading

    def read_now(self, reader: Reader, offset: int, buffer: memoryview) -> memoryview | None:
        """Fill *buffer* from *offset* if that takes neither network nor disk, else None.

        Returns the filled part of *buffer*, shorter only at the end of the content.
        """
        end = min(offset + len(buffer), self.size_bytes)
        if end <= offset:
            return buffer[:0]
        first, stop = offset // BLOCK_BYTES, block_count(end)
        if not (self._deliverable(reader, end) and self._map.all_ready(first, stop)):
            return None
        part = buffer[: end - offset]
        if not self._blocks.read_now(offset, part):
            return None
        self._note(reader, offset, end)
        return part

    async def read(self, reader: Reader, offset: int, length: int) -> bytes | memoryview:
        """*length* bytes from *offset*, fewer only at the end of the content.

        Waits for what is not here yet, with a deadline from the last progress.
        """
        end = min(offset + length, self.size_bytes)
        if end <= offset:
            return b""
        first, stop = offset // BLOCK_BYTES, block_count(end)
        buffer = memoryview(bytearray(end - offset))
        reader.readahead.note(offset, end - offset)
        while True:
            await self._wait(reader, first, stop, proof=end > self.size_bytes - TAIL_BYTES)
            generation = self.generation
            complete = self._blocks.read_now(offset, buffer) or await self._read_ready(reader, offset, buffer)
            if complete and generation == self.generation:
                self._raise_if_poisoned(reader)
                self._note(reader, offset, end)
                return buffer

    async def _read_ready(self, reader: Reader, offset: int, buffer: memoryview) -> bool:
        ahead_bytes = len(buffer) + min(reader.readahead.window_bytes, DISK_AHEAD_BYTES)
        gone = await trio.to_thread.run_sync(
            self._blocks.read_ahead, offset, ahead_bytes, buffer, limiter=self._service.disk_threads
        )
        for block in gone:
            self._map.replace(block, block + 1, READY, ABSENT)
        return not gone

    def _deliverable(self, reader: Reader, end: int) -> bool:
        if self._is_poisoned(reader):
            return False
        return self.proved or end <= self.size_bytes - TAIL_BYTES

    def _is_poisoned(self, reader: Reader) -> bool:
        return self._poisoned is not None and reader.generation <= self._poisoned[0]

    def _raise_if_poisoned(self, reader: Reader) -> None:
        if self._poisoned is not None and reader.generation <= self._poisoned[0]:
            raise _again(self._poisoned[1])

    def _note(self, reader: Reader, offset: int, end: int) -> None:
        """Bytes go to a reader now: remember what it got, and read ahead for it."""
        readahead = reader.readahead
        if not self.proved:
            first, stop = offset // BLOCK_BYTES, block_count(end)
            self._delivered[first:stop] = b"\1" * (stop - first)
        readahead.note(offset, end - offset)
        if readahead.position >= reader.plan_at and readahead.window_bytes:
            reader.plan_at = readahead.position + max(MIB // 2, readahead.window_bytes // 8)
            self._stored.touch(offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES)
            self.plan()

    # Waiting

    async def _wait(self, reader: Reader, first: int, end: int, *, proof: bool) -> None:
        """Until ``[first, end)`` is ready, and the whole content proved if *proof*."""
        waiter = _Waiter(reader, first, end, proof and not self.proved)
        started = self._service.clock()
        while True:
            self._raise_if_poisoned(reader)
            if self._ready_for(waiter):
                return
            if self._service.clock() < self._wrong_until:
                raise ContentWrong(f"{self._wrong_text} It was fetched twice; try again later.")
            if self._is_lost(waiter):
                raise ImageChanged(f"Image {self._image_id} is gone from the account.")
            deadline_s = self._service.settings.reader_deadline_s
            left = max(started, self._progress_at) + deadline_s - self._service.clock()
            if left <= 0:
                self._timed_out_until = self._service.clock() + self._service.settings.timed_out_for_s
            if left <= 0 or self._service.clock() < self._timed_out_until:
                raise self._timed_out()
            await self._sleep(waiter, left)
            if waiter.error is not None:
                raise _again(waiter.error)

    async def _sleep(self, waiter: _Waiter, timeout_s: float) -> None:
        waiter.woken = trio.Event()
        self._waiters.add(waiter)
        try:
            self.plan()
            with trio.move_on_after(timeout_s):
                await waiter.woken.wait()
        finally:
            self._waiters.discard(waiter)

    def _ready_for(self, waiter: _Waiter) -> bool:
        return (self.proved or not waiter.proof) and self._map.all_ready(waiter.first, waiter.end)

    def _is_lost(self, waiter: _Waiter) -> bool:
        """Whether something that is waited for can come from nowhere any more."""
        if self._fetcher.has_source:
            return False
        lost = self._map.count(waiter.first, waiter.end, ABSENT)
        if waiter.proof:
            lost += self._map.count(self._hasher.position, self.total, ABSENT)
        return lost > 0

    def _timed_out(self) -> Exception:
        if self._last_error is not None:
            return _again(self._last_error)
        deadline_s = self._service.settings.reader_deadline_s
        return TransferStalled(f"Image {self._image_id}: nothing arrived for {deadline_s:.0f} s.")

    def _wake(self) -> None:
        for waiter in self._waiters:
            if self._ready_for(waiter):
                waiter.woken.set()

    def _fail(self, error: Exception) -> None:
        for waiter in self._waiters:
            waiter.error = error
            waiter.woken.set()
        self._waiters.clear()  # nothing is fetched for them any more

    def out_of_sources(self) -> None:
        """Let every waiter see again whether it waits in vain."""
        for waiter in self._waiters:
            waiter.woken.set()

    # What to fetch

    def plan(self) -> None:
        """Start the checks and transfers that the readers need."""
        needs = self.needs()
        for need in needs:
            self._check_ahead(need)
        self._keep_hot(needs)
        self._fetcher.plan()

    def _keep_hot(self, needs: list[Need]) -> None:
        """Keep the cache from evicting what is being read, will be soon, or was not hashed yet."""
        firsts = [need.first for need in needs]
        if not self.proved and self._hasher.frontier > self._hasher.position:
            firsts.append(self._hasher.position)
        wanted = max((need.wanted for need in needs), default=self._hasher.frontier)
        self._stored.hot = (min(firsts), wanted) if firsts else (0, 0)

    @property
    def reach_blocks(self) -> int:
        """How far ahead anything is worth fetching: what memory can hold, where the cache takes nothing."""
        return MEMORY_BLOCKS // 2 if self._blocks.cache_failed else self.total

    def needs(self) -> list[Need]:
        """What the waiters wait for and the readers will want, as the fetcher asks it."""
        needs = [
            Need(waiter.first, waiter.end, max(waiter.end, waiter.reader.wanted_end()))
            for waiter in self._waiters
            if not self._map.all_ready(waiter.first, waiter.end)
        ]
        waiting = {waiter.reader for waiter in self._waiters}
        for reader in self._readers - waiting:
            if self._is_poisoned(reader):
                continue
            position = reader.readahead.position // BLOCK_BYTES
            if reader.wanted_end() > position:
                needs.append(Need(position, position, reader.wanted_end()))
        if any(waiter.proof for waiter in self._waiters):
            needs.append(self._need_of_proof())
        return needs

    def _need_of_proof(self) -> Need:
        """All that was not hashed yet, in order."""
        position = self._hasher.position
        demanded = min(self.total, position + min(4 * CHECK_BLOCKS, self.reach_blocks))
        return Need(position, demanded, min(self.total, position + min(16 * CHECK_BLOCKS, self.reach_blocks)))

    # What the fetcher reports

    def blocks_arrived(self, fresh: int) -> None:
        """Blocks became ready, *fresh* of them that were not there before."""
        self._progress_at = self._service.clock()
        if fresh:
            self._last_error = None
            self._timed_out_until = 0.0
            self._wrongs = 0 if self.proved else self._wrongs
        if self._blocks.differs:
            self._blocks.differs = False
            self._poison(
                self.generation - 1,
                ContentWrong(f"Image {self._image_id} arrived corrupt and was fetched again; start over."),
            )
        self._wake()
        self._hash_on()

    def fetch_delayed(self, error: Exception) -> None:
        """A transfer failed, and what is left of it is tried again soon."""
        self._last_error = error

    def fetch_failed(self, error: Exception) -> None:
        """A transfer failed in a way that trying again does not mend, or did not."""
        self._last_error = error
        if isinstance(error, ImageChanged) and self._fetcher.has_source:
            self._poison(self.generation, error)
            self._restart({})
        elif isinstance(error, ContentWrong):
            self._wrongs += 1
            if self._wrongs > 1:
                self._fail(error)
        else:
            self._fail(error)

    # Checking what was cached before

    def _check_ahead(self, need: Need) -> None:
        """Compare cached blocks with their checksums, some way ahead of who reads them."""
        end = max(need.demanded, min(need.wanted, need.first + CHECK_AHEAD_BLOCKS))
        for run_first, run_end in self._map.unchecked_runs(need.first, end):
            for first in range(run_first, run_end, CHECK_BLOCKS):
                stop = min(run_end, first + CHECK_BLOCKS)
                self._map.set(first, stop, COMING)
                self._jobs.start(self._check, first, stop)

    async def _check(self, first: int, end: int) -> None:
        try:
            damaged = await trio.to_thread.run_sync(
                self._blocks.check, first, end, limiter=self._service.disk_threads
            )
        except BaseException:
            self._map.replace(first, end, COMING, UNCHECKED)
            raise
        if self._fetcher.halted:
            return
        self._map.replace(first, end, COMING, READY)
        for block in damaged:
            self._map.set(block, block + 1, ABSENT)
        self._progress_at = self._service.clock()
        self._wake()
        self._hash_on()
        self.plan()

    # Proving the whole

    def _hash_on(self) -> None:
        """Let the hasher go on over what is ready in front of it."""
        if self.proved or self._fetcher.halted:
            return
        hasher = self._hasher
        hasher.frontier = self._map.end_of_ready(max(hasher.frontier, hasher.position))
        if hasher.frontier > hasher.position and not hasher.running:
            hasher.running = True
            self._jobs.start(self._hash, hasher)

    async def _hash(self, hasher: Hasher) -> None:
        try:
            gone = await trio.to_thread.run_sync(hasher.advance, limiter=self._service.hash_threads)
        finally:
            hasher.running = False
        if self._fetcher.halted:
            return
        self._progress_at = self._service.clock()
        for block in gone:
            self._map.replace(block, block + 1, READY, ABSENT)
        if gone:
            hasher.frontier = hasher.position
        if not hasher.finished:
            self._hash_on()
            self.plan()
        elif self.key.checksum is None or hasher.hexdigest() == self.key.checksum:
            await self._found_right()
        else:
            self._found_wrong(hasher.hexdigest())

    async def _found_right(self) -> None:
        self.proved = True
        self._wrongs = 0
        self._wake()
        await trio.to_thread.run_sync(self._blocks.mark_verified, limiter=self._service.disk_threads)

    def _found_wrong(self, md5: str) -> None:
        text = (
            f"The content of image {self._image_id} has the MD5 {md5}, "
            f"but its details say {self.key.checksum}."
        )
        error = ContentWrong(text)
        self._service.note_error(self._image_id, text)
        self._last_error = error
        self._wrongs += 1
        if self._wrongs > 1:
            logger.error("%s It was fetched twice.", text)
            self._wrong_text = text
            self._wrongs = 0
            self._wrong_until = self._service.clock() + self._service.settings.wrong_for_s
            self._poison(self.generation, error)
        else:
            logger.warning("%s Fetching it once more.", text)
        delivered = [block for block in range(self.total) if self._delivered[block]]
        self._restart(self._blocks.sums_of(delivered))

    def _poison(self, generation: int, error: ContentError) -> None:
        """Whoever read of *generation* or before may hold wrong bytes: no more for them."""
        self._poisoned = (generation, error)
        for waiter in [waiter for waiter in self._waiters if self._is_poisoned(waiter.reader)]:
            waiter.woken.set()
            self._waiters.discard(waiter)

    def _restart(self, delivered_sums: dict[int, bytes]) -> None:
        """Forget all content, and fetch again what is waited for. From now on, nothing of the old is delivered."""
        self._map.set(0, self.total, ABSENT)
        self.generation += 1
        self.proved = False
        self._fetcher.halted = True
        self._restarts.start(self._start_over, delivered_sums)

    async def _start_over(self, delivered_sums: dict[int, bytes]) -> None:
        await self._fetcher.halt()
        await self._jobs.idle()
        await trio.to_thread.run_sync(self._blocks.drop, limiter=self._service.disk_threads)
        self._delivered = bytearray(self.total)
        self.proved = False
        self._hasher = Hasher(self.size_bytes, self._blocks.read)
        self._blocks.expect(delivered_sums)
        self._fetcher.halted = False
        self.plan()

    # The end

    async def flush(self) -> None:
        """Make what arrived durable, and its place in the index."""
        try:
            await trio.to_thread.run_sync(self._stored.flush, limiter=self._service.disk_threads)
        except StoreError as error:
            logger.warning("What was cached of image %s could not be recorded: %s", self._image_id, error)

    async def shut(self) -> None:
        """Stop everything and close the cached file. Nobody reads any more."""
        await self._restarts.idle()
        await self._fetcher.halt()
        await self._jobs.idle()
        try:
            await trio.to_thread.run_sync(self._stored.close, limiter=self._service.disk_threads)
        except StoreError as error:
            logger.warning("What was cached of image %s could not be recorded: %s", self._image_id, error)


def _again(error: Exception) -> Exception:
    """*error* for one more reader: a new object, in the words of a reader's errors."""
    if isinstance(error, (ContentError, Unreachable, CredentialsRefused)):
        return type(error)(*error.args)
    wrapped = TransferBroken(str(error))
    wrapped.__cause__ = error
    return wrapped
