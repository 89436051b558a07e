"""One content and those who read it. On trio's thread.

A content may be that of several images (replicas); whoever opens one of them gets a :class:`Reader` of the same
:class:`Content`. What has arrived and is known to be right is delivered at once; for the rest a reader waits. The
parts that a content is made of, and who knows whom::

    Reader --> Content --> Delivery      readers get what is here, and wait for the rest
                  |------> Waiters       who waits, until when
                  |------> Demand        what readers and waiters need
                  |------> Checks        cached blocks against their checksums
                  |------> Fetcher       absent blocks from the service: Planner, Retries, Transfers
                  |------> Proof         the whole against its MD5: Hasher
                  |------> Generations   which readers must not go on after that has failed
                  |------> Restart       giving up all bytes, to fetch them anew
                  '------> Blocks        the bytes, on disk or in memory; BlockMap: the state of each block

The parts report to the content, and the content tells the other parts.
"""

from __future__ import annotations

import logging

import trio

from imagefs.content.background import Background
from imagefs.content.blockmap import ABSENT, BlockMap
from imagefs.content.blocks import Blocks, Stored
from imagefs.content.checks import Checks
from imagefs.content.delivery import Delivery
from imagefs.content.demand import Demand
from imagefs.content.fetcher import Fetcher
from imagefs.content.generations import Generations
from imagefs.content.planning import HEADER_BLOCKS, Need
from imagefs.content.proof import Proof
from imagefs.content.reader import Reader
from imagefs.content.restart import Restart
from imagefs.content.surroundings import Surroundings
from imagefs.content.waiters import Waiter, Waiters, everyone
from imagefs.errors import ContentError, ContentWrong, ImageChanged
from imagefs.store.blocks import block_count

logger = logging.getLogger(__name__)


class Content:
    """The bytes of one content, in the cache and on their way.

    Raises, from its reading methods, only :class:`ContentError`, :class:`Unreachable` and
    :class:`CredentialsRefused`.
    """

    def __init__(self, stored: Stored, image_id: str, around: Surroundings) -> None:
        self.key = stored.key
        self.size_bytes = stored.size_bytes
        self.total = block_count(stored.size_bytes)
        self.image_id = image_id
        self._around = around
        self._map = BlockMap(bytes(stored.present))
        self._blocks = Blocks(stored, image_id)
        self._readers: set[Reader] = set()
        self._waiters = Waiters(image_id, around.settings, around.clock)
        self._generations = Generations(self.total, around.settings.wrong_for_s, around.clock)
        self._jobs = Background(around.spawn, self._waiters.fail)
        self._fetcher = Fetcher(around, self._blocks, self._map, self)
        self._fetcher.add_source(image_id)
        self._checks = Checks(self._blocks, self._map, self._jobs, around.disk_threads, self._progressed)
        self._proof = Proof(
            checksum=stored.key.checksum,
            verified=stored.verified,
            blocks=self._blocks,
            block_map=self._map,
            jobs=self._jobs,
            threads=around.hash_threads,
            progressed=self._progressed,
            found_right=self._found_right,
            found_wrong=self._found_wrong,
        )
        self._demand = Demand(
            self._readers, self._waiters, self._map, self._blocks, self._proof, self._generations
        )
        self._delivery = Delivery(
            around,
            self._blocks,
            self._map,
            self._proof,
            self._generations,
            self._waiters,
            raise_if_lost=self._raise_if_lost,
            plan=self.plan,
        )
        self._restart = Restart(
            blocks=self._blocks,
            block_map=self._map,
            fetcher=self._fetcher,
            proof=self._proof,
            generations=self._generations,
            jobs=self._jobs,
            own_jobs=Background(around.spawn, self._waiters.fail),
            threads=around.disk_threads,
            plan=self.plan,
        )

    # Readers

    def open(self, image_id: str) -> Reader:
        """A new reader, through the given image."""
        self._fetcher.add_source(image_id)
        reader = Reader(self, self._generations.number)
        self._readers.add(reader)
        return reader

    def close(self, reader: Reader) -> None:
        """The reader is done. When the last one is, what is being fetched stops; what arrived stays."""
        self._readers.discard(reader)
        if not self._readers:
            self._fetcher.stop_all()
            self._blocks.stored.hot = (0, 0)

    @property
    def open_readers(self) -> int:
        """How many handles are open."""
        return len(self._readers)

    @property
    def at_rest(self) -> bool:
        """Whether nobody reads, and nothing is being fetched, checked or hashed: it can be shut at once."""
        working = not (self._fetcher.is_idle and self._jobs.is_idle and self._restart.is_idle)
        return not self._readers and not working

    @property
    def is_fetching(self) -> bool:
        """Whether anything is on its way from the service."""
        return not self._fetcher.is_idle

    @property
    def in_memory(self) -> bool:
        """Whether some of its bytes are in memory, as the cache takes none."""
        return self._blocks.in_memory

    @property
    def proved(self) -> bool:
        """Whether all of the content was found right."""
        return self._proof.found

    @property
    def keepable(self) -> bool:
        """Whether all that the kernel was given is right for any content of this key: proved, and never other bytes."""
        return self.proved and not self._generations.any_stale

    def moved(self, image_id: str, replica_id: str) -> None:
        """Once the image is gone, what it had can be fetched from its replica."""
        if self._fetcher.has(image_id):
            self._fetcher.add_source(replica_id)

    def vanished(self, image_id: str) -> None:
        """The image is gone, or has other content; these bytes are still those of the others, and of the cache."""
        self._fetcher.remove_source(image_id)
        self.out_of_sources()

    # Reading

    def read_now(self, reader: Reader, offset: int, buffer: memoryview) -> memoryview | None:
        """Fill *buffer* from *offset* if that takes neither network nor disk, else None.

        Returns the filled part of *buffer*, shorter only at the end of the content.
        """
        return self._delivery.read_now(reader, offset, buffer)

    async def read(self, reader: Reader, offset: int, length: int) -> bytes | memoryview:
        """*length* bytes from *offset*, fewer only at the end of the content.

        Waits for what is not here yet, with a deadline from the last progress.
        """
        return await self._delivery.read(reader, offset, length)

    def _raise_if_lost(self, waiter: Waiter) -> None:
        """Raise ImageChanged where something that *waiter* waits for can come from nowhere any more."""
        if not self._fetcher.has_source and self._delivery.lacks(waiter, ABSENT):
            raise ImageChanged(
                f"Image {self.image_id} is gone from the account, or has other content by now."
            )

    # What is done for them

    def plan(self) -> None:
        """Start the checks, transfers and hashing that are due."""
        if self._fetcher.halted:
            return
        self._proof.go_on()
        needs = self.needs()
        for need in needs:
            self._checks.go_ahead(need)
        self._blocks.stored.hot = self._demand.hot(needs)
        self._fetcher.plan()

    def needs(self) -> list[Need]:
        """As the fetcher asks it."""
        return self._demand.needs()

    def _progressed(self) -> None:
        """A check or a step of the proof is done; it may have found damage that nobody can mend."""
        self._waiters.progressed()
        self._waiters.wake(self._delivery.is_ready if self._fetcher.has_source else everyone)
        self.plan()

    # What the fetcher reports

    def blocks_arrived(self, first: int, end: int, fresh: int) -> None:
        """Of the blocks ``[first, end)``, the next became ready, *fresh* of which were not there before."""
        self._waiters.progressed(first, end)
        if fresh:
            self._waiters.arrived(first, end)
        if self._blocks.differs:
            self._blocks.differs = False
            text = f"Image {self.image_id} arrived corrupt and was fetched again; start over."
            self._make_stale(self._generations.number - 1, ContentWrong(text))
        self._waiters.wake(self._delivery.is_ready)
        self._proof.go_on()

    def fetch_delayed(self, error: Exception, first: int, end: int) -> None:
        """A transfer failed, and what is left of it, the blocks ``[first, end)``, is tried again soon."""
        self._waiters.last_error = error
        self._waiters.set_back(error, first, end)

    def fetch_failed(self, error: Exception, first: int, end: int) -> None:
        """A transfer failed, ``[first, end)`` is left of it, and another try does not mend that, or has not."""
        self._waiters.last_error = error
        if isinstance(error, ImageChanged) and self._fetcher.has_source:
            self._make_stale(self._generations.number, error)
            self._restart.begin({})
        elif isinstance(error, ContentWrong):
            self._block_was_wrong(error, first, end)
        else:  # what is on its way still has its own end
            self._waiters.fail(error, lambda waiter: self._delivery.lacks(waiter, ABSENT))

    def _block_was_wrong(self, error: ContentWrong, first: int, end: int) -> None:
        """A block of proved content came wrong: it is fetched once more, before those that wait for it get *error*."""
        if first < HEADER_BLOCKS:
            first = 0  # who waits for any part of the header has all of it fetched
            end = max(end, HEADER_BLOCKS)

        self._waiters.fail(error, lambda waiter: waiter.came_wrong and waiter.needs_any(first, end))
        self._waiters.set_back(error, first, end)

    def out_of_sources(self) -> None:
        """No image is left to fetch from: let every waiter see whether it waits in vain."""
        self._waiters.wake(everyone)

    # What the proof reports

    def _found_right(self) -> None:
        self._generations.was_right()
        self._waiters.progressed()
        self._waiters.wake(self._delivery.is_ready)
        self._jobs.start(self._record_right)

    async def _record_right(self) -> None:
        await trio.to_thread.run_sync(self._blocks.mark_verified, limiter=self._around.disk_threads)

    def _found_wrong(self, md5: str) -> None:
        text = (
            f"The content of image {self.image_id} has the MD5 {md5}, "
            f"but its details say {self.key.checksum}."
        )
        error = ContentWrong(text)
        self._around.note_error(self.image_id, text)
        looked_up = self._fetcher.doubt_sources()
        self._waiters.progressed()
        self._waiters.last_error = error
        if self._generations.was_wrong_again():
            logger.error("%s It was fetched twice.", text)
            self._generations.refuse(error)
            self._make_stale(self._generations.number, error)
        else:
            logger.warning("%s Fetching it once more.", text)
            self._fetcher.try_elsewhere()
        self._restart.begin(self._blocks.sums_of(self._generations.delivered), looked_up)

    def _make_stale(self, last: int, error: ContentError) -> None:
        """Whoever reads of generation *last* or before may hold wrong bytes: no more for them."""
        self._generations.make_stale(last, error)
        self._waiters.wake(lambda waiter: self._generations.is_stale(waiter.reader))

    # The end

    async def flush(self) -> None:
        """Make what arrived durable, and its place in the index."""
        await trio.to_thread.run_sync(self._blocks.flush, limiter=self._around.disk_threads)

    async def shut(self) -> None:
        """Stop everything and close the cached file. Nobody reads any more."""
        await self._restart.idle()
        self._proof.stop()
        await self._fetcher.halt()
        await self._jobs.idle()
        await trio.to_thread.run_sync(self._blocks.close, limiter=self._around.disk_threads)
