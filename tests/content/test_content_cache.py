"""Reading while the cache disk is full, failing, or evicts what is being read."""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from content_fakes import (
    MIB,
    Answer,
    FakeSite,
    Stage,
    difference,
    key_of,
    made_up,
    open_cache,
    outcome,
    play,
    read,
    until,
)

from imagefs.content.reader import Reader
from imagefs.content.uncached import Uncached
from imagefs.core.models import ContentKey
from imagefs.errors import CacheFull, CacheUnusable, StoreError
from imagefs.store.blocks import BLOCK_BYTES, SUM_BYTES
from imagefs.store.directory import CacheDirectory

DATA = made_up(3 * MIB - 1234)
LAST_BLOCK = len(DATA) // BLOCK_BYTES * BLOCK_BYTES

FAILING = (
    "write_blocks",
    "read_into",
    "check_block",
    "forget_blocks",
    "flush",
    "mark_verified",
    "drop",
    "close",
)


class FailingStored:
    """A cached file each of whose calls fails when ``fails`` says so."""

    def __init__(self, stored: Any, fails: Callable[[str], StoreError | None]) -> None:
        self.__dict__["_stored"] = stored
        self.__dict__["_fails"] = fails

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stored, name)
        if name not in FAILING:
            return found

        def call(*args: Any) -> Any:
            error = self._fails(name)
            if name == "close":
                found()
            if error is not None:
                raise error
            return None if name == "close" else found(*args)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stored, name, value)

    def read_now_into(self, offset: int, buffer: memoryview) -> bool:
        return self._fails("read_now_into") is None and self._stored.read_now_into(offset, buffer)


class FailingCache:
    """A cache directory whose files fail when ``fails`` says so."""

    def __init__(self, cache: CacheDirectory, fails: Callable[[str], StoreError | None]) -> None:
        self._cache = cache
        self._fails = fails

    def content(self, key: ContentKey, /) -> Any:
        error = self._fails("content")
        if error is not None:
            raise error
        return FailingStored(self._cache.content(key), self._fails)

    def cached_bytes(self, key: ContentKey) -> int:
        return self._cache.cached_bytes(key)


def always(*names: str) -> Callable[[str], StoreError | None]:
    """Fails the calls *names*."""
    return lambda name: CacheFull("no space") if name in names else None


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("failing", [*FAILING, "content"])
def test_a_failing_cache_never_fails_a_copy(cache: CacheDirectory, failing: str, ranged: bool) -> None:
    """Whatever the cache cannot do, a copy is exact, and a second one too."""
    site = FakeSite(DATA, (Answer(ranged=ranged),))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert difference(await stage.read_all(reader), DATA) is None
        assert reader.content.proved
        assert difference(await stage.read_all(reader), DATA) is None
        await reader.content.flush()

    play(scene, site, FailingCache(cache, always(failing)))


def test_a_large_copy_without_cache_moves_hardly_more_bytes(cache: CacheDirectory) -> None:
    """With a cache that takes nothing, memory holds what is between the transfer, the reader and the check."""
    data = made_up(72 * MIB)
    site = FakeSite(data, (Answer(piece_bytes=MIB),))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        got = await stage.read_all(reader, MIB)
        assert difference(got, data) is None

    play(scene, site, FailingCache(cache, always("write_blocks")))
    assert site.sent_bytes <= 1.25 * len(data)


def test_bytes_that_only_memory_held_are_still_compared(cache: CacheDirectory) -> None:
    """Content that was proved, given up by memory and sent again differently is not delivered."""
    data = made_up(40 * MIB)
    other = bytearray(data)
    other[7] ^= 1
    site = FakeSite(data)

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert difference(await stage.read_all(reader, MIB), data) is None
        site.script = (Answer(data=bytes(other)),)
        assert not isinstance(await outcome(lambda: read(reader, 0, 100)), bytes)

    play(scene, site, FailingCache(cache, always("write_blocks")))


def test_checksums_that_no_cache_keeps_take_little_memory() -> None:
    """A program that reads an image of any size while there is no cache leaves a checksum for every 128 KiB."""
    count = 32 << 10
    stored = Uncached(ContentKey(count * BLOCK_BYTES, None, "84473"))
    tracemalloc.start()
    try:
        for first in range(0, count, 8):
            with suppress(CacheUnusable):
                stored.write_blocks(
                    first, memoryview(b""), [_sum_number(block) for block in range(first, first + 8)]
                )
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes <= 20 * count
    assert [stored.sum_of(block) for block in range(count)] == [_sum_number(block) for block in range(count)]


def _sum_number(block: int) -> bytes:
    return (block + 1).to_bytes(SUM_BYTES, "big")


@pytest.mark.parametrize("seed", range(12))
def test_a_cache_that_fails_now_and_then(cache: CacheDirectory, seed: int) -> None:
    """Random failures of the cache never show in what readers get."""
    chance = random.Random(seed)

    def fails(name: str) -> StoreError | None:
        if chance.random() > 0.25:
            return None
        return CacheFull("no space") if chance.random() < 0.5 else CacheUnusable("input/output error")

    async def scene(stage: Stage) -> None:
        async def copy(step: int) -> None:
            reader = await stage.open()
            assert difference(await stage.read_all(reader, step), DATA) is None
            stage.library.close(reader)

        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for step in (BLOCK_BYTES, 300_001):
                    nursery.start_soon(copy, step)

    site = FakeSite(DATA, (Answer(ranged=bool(seed % 2), piece_bytes=200_000),))
    play(scene, site, FailingCache(cache, fails))


@pytest.mark.parametrize("ranged", [True, False])
def test_eviction_in_the_middle_of_reading(cache: CacheDirectory, ranged: bool) -> None:
    """Blocks that are evicted under readers and the check are fetched again, and nothing waits for ever."""
    data = made_up(6 * MIB + 99)
    site = FakeSite(data, (Answer(ranged=ranged, piece_bytes=100_000),))
    chance = random.Random(7)
    done = threading.Event()

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        stored = reader.content._blocks.stored

        async def evict() -> None:
            for _ in range(40):
                blocks = chance.sample(range(reader.content.total), 5)
                await trio.to_thread.run_sync(stored.forget_blocks, blocks)
                await trio.sleep(0.001)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(evict)
            while not done.is_set():
                assert difference(await stage.read_all(reader, 250_000), data) is None
                await trio.lowlevel.checkpoint()
        assert difference(await stage.read_all(reader), data) is None

    play(scene, site, cache)


@pytest.mark.parametrize("gone", [1, 5, 14])
def test_the_check_fetches_the_blocks_that_it_misses(tmp_path: Path, gone: int) -> None:
    """A block that is evicted before it was hashed is fetched again, wherever in a run of blocks it lies."""
    site = FakeSite(DATA)
    cache = open_cache(tmp_path / "cache")

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        async with stage.around.hash_threads:  # nothing is hashed meanwhile
            assert difference(await read(reader, 0, LAST_BLOCK), DATA[:LAST_BLOCK]) is None
            reader.content._blocks.stored.forget_blocks([gone])
        assert difference(await read(reader, LAST_BLOCK, BLOCK_BYTES), DATA[LAST_BLOCK:]) is None

    play(scene, site, cache)
    cache.close()
    assert site.sent_bytes <= len(DATA) + 2 * BLOCK_BYTES


def test_a_cache_smaller_than_the_image(tmp_path: Path) -> None:
    """An image larger than the whole cache is copied exactly, by two readers far apart."""
    data = made_up(40 * MIB)
    site = FakeSite(data)
    cache = open_cache(tmp_path / "cache", max_bytes=16 * MIB)

    async def scene(stage: Stage) -> None:
        async def copy(start: int) -> None:
            reader = await stage.open()
            for offset in range(start, len(data), MIB):
                assert difference(await read(reader, offset, MIB), data[offset : offset + MIB]) is None

        async with trio.open_nursery() as nursery:
            nursery.start_soon(copy, 0)
            nursery.start_soon(copy, 20 * MIB)

    play(scene, site, cache, key=key_of(data))
    cache.close()


class Hanging:
    """A cache whose disk does not answer *names* while it ``hangs``; no read finds anything in the page cache then."""

    def __init__(self, cache: CacheDirectory, *names: str) -> None:
        self.cache = FailingCache(cache, self._fails)
        self.hung: list[str] = []
        self.ended: list[str] = []
        self._names = names
        self._answers = threading.Event()
        self._answers.set()

    def _fails(self, name: str) -> StoreError | None:
        if name == "read_now_into" and not self._answers.is_set():
            return CacheUnusable("it is not in the page cache")
        if name in self._names and not self._answers.is_set():
            self.hung.append(name)
            self._answers.wait(30)
            self.ended.append(name)
        return None

    @contextmanager
    def hangs(self) -> Iterator[None]:
        """Until the end of the block."""
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()


async def leave_a_read(disk: Hanging, reader: Reader) -> None:
    """Begin to read, and give it up while the disk hangs in it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, reader, 0, 100)
        await until(lambda: bool(disk.hung))
        nursery.cancel_scope.cancel()


def test_a_reader_can_leave_a_disk_that_hangs(cache: CacheDirectory) -> None:
    """Ctrl-C ends its wait. When the disk is back, all goes on."""
    disk = Hanging(cache, "read_into")

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        await stage.read_all(reader)
        with disk.hangs():
            await leave_a_read(disk, reader)
            assert not disk.ended
        assert await read(reader, 0, 100) == DATA[:100]

    play(scene, FakeSite(DATA), disk.cache)


def test_the_end_does_not_wait_for_a_read_that_was_left(
    cache: CacheDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """It finds its file closed, of which the log has nothing to say."""
    disk = Hanging(cache, "read_into")

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        await stage.read_all(reader)
        with disk.hangs():
            await leave_a_read(disk, reader)
            await stage.library.shut()
            assert not disk.ended
        await until(lambda: stage.around.disk_threads.borrowed_tokens == 0)
        assert disk.ended

    play(scene, FakeSite(DATA), disk.cache)
    assert not caplog.records


def test_who_waits_for_the_disk_holds_no_memory(cache: CacheDirectory) -> None:
    """Of many readers, those alone that have one of its threads."""
    disk = Hanging(cache, "read_into")

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        await stage.read_all(reader)
        waiting = stage.around.disk_threads.statistics
        before = tracemalloc.get_traced_memory()[0]
        with disk.hangs():
            async with trio.open_nursery() as nursery:
                for _ in range(40):
                    nursery.start_soon(reader.read, 0, MIB)
                await until(lambda: waiting().tasks_waiting == 38 and len(disk.hung) == 2)
                assert tracemalloc.get_traced_memory()[0] - before < 6 * MIB
                nursery.cancel_scope.cancel()

    tracemalloc.start()
    try:
        play(scene, FakeSite(DATA), disk.cache)
    finally:
        tracemalloc.stop()
