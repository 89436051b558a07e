"""Contents that are shared, kept warm, flushed and closed."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import trio
import trio.testing
from content_fakes import IMAGE, PATIENT, FakeSite, Stage, difference, key_of, made_up, play, read, until

from imagefs.content.uncached import Uncached
from imagefs.core.models import ContentKey
from imagefs.errors import CacheUnusable
from imagefs.store.blocks import BLOCK_BYTES
from imagefs.store.directory import CacheDirectory
from imagefs.store.layout import content_name

DATA = made_up(3 * BLOCK_BYTES + 5)
BRISK = replace(PATIENT, flush_every_s=0.002, idle_contents=1)


class NoCache:
    """Gives no file."""

    def content(self, key: ContentKey, /) -> Any:
        raise CacheUnusable("read-only file system")

    def cached_bytes(self, key: ContentKey) -> int:
        return 0


def test_equal_keys_share_one_content(cache: CacheDirectory) -> None:
    """However many open it at once, and through whichever image."""

    async def scene(stage: Stage) -> None:
        readers = []

        async def one(image_id: str) -> None:
            readers.append(await stage.open(image_id))

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(one, str(number % 3))
        assert len({reader.content for reader in readers}) == 1
        assert readers[0].content.open_readers == 10
        other = await stage.library.open(ContentKey(len(DATA), None, "7"), "7")
        assert other.content is not readers[0].content
        for reader in readers:
            stage.library.close(reader)
            stage.library.close(reader)
        assert readers[0].content.open_readers == 0

    play(scene, FakeSite(DATA), cache)


def test_idle_contents_are_closed_and_readers_find_them_again(cache: CacheDirectory) -> None:
    """Only so many stay open without readers; those with readers stay in any case, and all can be read."""

    async def scene(stage: Stage) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.library.serve)
            keys = [ContentKey(len(DATA), None, str(number)) for number in range(5)]
            held = await stage.library.open(keys[0], "0")
            for key in keys[1:]:
                reader = await stage.library.open(key, str(key.image_id))
                assert difference(await read(reader, 0, 100), DATA[:100]) is None
                stage.library.close(reader)
            await until(lambda: len(stage.library.contents()) == 2)
            assert held.content in stage.library.contents()
            reader = await stage.library.open(keys[1], "1")
            assert difference(await read(reader, 0, 100), DATA[:100]) is None
            nursery.cancel_scope.cancel()

    play(scene, FakeSite(DATA), cache, BRISK)


def test_opening_while_it_is_being_closed(cache: CacheDirectory) -> None:
    """Readers that come and go while idle contents are closed always get one that works, and share it."""
    settings = replace(BRISK, flush_every_s=0.0005, idle_contents=0)

    async def scene(stage: Stage) -> None:
        async def come_and_go() -> None:
            for _ in range(40):
                reader = await stage.open()
                assert stage.library.contents() == [reader.content]
                assert difference(await read(reader, 5, 100), DATA[5:105]) is None
                stage.library.close(reader)
                await trio.sleep(0.0005)

        async with trio.open_nursery() as served:
            served.start_soon(stage.library.serve)
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(come_and_go)
            await until(lambda: not stage.library.contents())
            served.cancel_scope.cancel()

    site = FakeSite(DATA)
    play(scene, site, cache, settings)
    assert site.sent_bytes <= 1.05 * len(DATA)


def test_what_is_opened_when_it_is_about_to_be_closed_stays_open(cache: CacheDirectory) -> None:
    """Closing waits for who opens it just then, and looks again."""

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        stage.library.close(reader)
        async with trio.open_nursery() as nursery, stage.library._opening.setdefault(stage.key, trio.Lock()):
            nursery.start_soon(stage.library._shut_idle, 0)
            await trio.testing.wait_all_tasks_blocked()
            reader = reader.content.open(IMAGE)
        assert stage.library.contents() == [reader.content]
        assert difference(await stage.read_all(reader), DATA) is None

    play(scene, FakeSite(DATA), cache)


def test_flushing_goes_on_after_a_bug(cache: CacheDirectory, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be recorded is logged; the mount lives on."""

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        await read(reader, 0, 10)
        failures: list[Exception] = [KeyError("a bug"), CacheUnusable("input/output error")]

        class Failing:
            def __getattr__(self, name: str) -> Any:
                return getattr(stored, name)

            def flush(self) -> int:
                if failures:
                    raise failures.pop(0)
                flushed.append(1)
                return 0

        stored, flushed = reader.content._blocks.stored, []
        reader.content._blocks.stored = Failing()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.library.serve)
            await until(lambda: bool(flushed))
            nursery.cancel_scope.cancel()
        reader.content._blocks.stored = stored

    play(scene, FakeSite(DATA), cache, BRISK)
    assert "a bug" in caplog.text
    assert "input/output error" in caplog.text
    caplog.clear()


def test_what_the_last_reader_leaves_is_soon_durable(cache: CacheDirectory) -> None:
    """A mount that is killed some time after a program has read a part has that part in its cache still."""

    async def scene(stage: Stage) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.library.serve)
            for end in (1, 3):
                reader = await stage.open()
                assert await read(reader, 0, end * BLOCK_BYTES)
                stage.library.close(reader)
                await until(lambda end=end: cache.index.cached_bytes().get(name, 0) >= end * BLOCK_BYTES)
            nursery.cancel_scope.cancel()

    name = content_name(key_of(DATA))
    play(scene, FakeSite(DATA), cache, replace(PATIENT, flush_every_s=3600.0, flush_pause_s=0.01))


def test_a_cache_that_gives_no_file_is_done_without(caplog: pytest.LogCaptureFixture) -> None:
    """The image is read all the same."""

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert difference(await stage.read_all(reader), DATA) is None
        assert stage.library.cached_bytes(key_of(DATA)) == 0

    play(scene, FakeSite(DATA), NoCache())
    assert "read-only file system" in caplog.text
    caplog.clear()


def test_what_the_cache_does_not_take_is_not_kept_for_nobody() -> None:
    """Each such content has up to 32 MiB in memory: of those that nobody reads, the latest stays."""

    async def scene(stage: Stage) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.library.serve)
            for number in range(5):
                image_id = str(number)
                reader = await stage.library.open(ContentKey(len(DATA), None, image_id), image_id)
                assert difference(await read(reader, 0, len(DATA)), DATA) is None
                stage.library.close(reader)
            await until(lambda: [content.image_id for content in stage.library.contents()] == ["4"])
            nursery.cancel_scope.cancel()

    play(scene, FakeSite(DATA), NoCache(), replace(BRISK, idle_contents=16))


def test_one_content_that_cannot_be_closed_holds_up_no_other(cache: CacheDirectory) -> None:
    """A request without an answer keeps its own content open; neither the others nor a new reader wait for it."""
    asked, answered = threading.Event(), threading.Event()

    class MuteForOne(FakeSite):
        def retrieve(self, image_id, size_bytes, start=0, end=None, *, stop=None):  # type: ignore[no-untyped-def]
            if image_id == "0":
                asked.set()
                answered.wait()
            return super().retrieve(image_id, size_bytes, start, end, stop=stop)

    async def scene(stage: Stage) -> None:
        keys = [ContentKey(len(DATA), None, str(number)) for number in range(3)]
        readers = [await stage.library.open(key, str(key.image_id)) for key in keys]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, readers[0], 0, 10)
            await until(asked.is_set)
            nursery.cancel_scope.cancel()
        for reader in readers:
            stage.library.close(reader)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.library.serve)
            with trio.fail_after(10):
                await until(lambda: stage.library.contents() == [readers[0].content])
                again = await stage.library.open(keys[0], "0")
            assert again.content is readers[0].content
            stage.library.close(again)
            answered.set()
            await until(lambda: not stage.library.contents())
            nursery.cancel_scope.cancel()

    try:
        play(scene, MuteForOne(DATA), cache, replace(BRISK, idle_contents=0))
    finally:
        answered.set()


def test_what_cannot_be_recorded_of_one_content_is_of_another(
    cache: CacheDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug that one content runs into every time does not keep the others from being flushed and closed."""

    async def scene(stage: Stage) -> None:
        broken = await stage.library.open(ContentKey(len(DATA), None, "0"), "0")
        other = await stage.library.open(ContentKey(len(DATA), None, "1"), "1")
        stage.library.close(other)

        async def flush() -> None:
            raise KeyError("a bug")

        broken.content.flush = flush  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.library.serve)
            with trio.fail_after(10):
                await until(lambda: stage.library.contents() == [broken.content])
            nursery.cancel_scope.cancel()

    play(scene, FakeSite(DATA), cache, replace(BRISK, idle_contents=0))
    assert "a bug" in caplog.text
    caplog.clear()


class SlowCache:
    """Opens a content when ``answers`` is set; what it has opened counts as open until closed."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked: list[ContentKey] = []
        self.open: list[Uncached] = []

    def content(self, key: ContentKey, /) -> Any:
        self.asked.append(key)
        self.answers.wait(30)
        stored = Uncached(key)
        stored.close = lambda: self.open.remove(stored)  # type: ignore[method-assign]
        self.open.append(stored)
        return stored

    def cached_bytes(self, key: ContentKey) -> int:
        return 0


def test_who_opens_can_leave_a_disk_that_hangs() -> None:
    """Ctrl-C ends its wait. What is opened all the same when the disk is back is closed again; all goes on."""
    cache = SlowCache()

    async def scene(stage: Stage) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stage.open)
                await until(lambda: bool(cache.asked))
                nursery.cancel_scope.cancel()
            assert not cache.open
        finally:
            cache.answers.set()
        reader = await stage.open()
        assert difference(await stage.read_all(reader), DATA) is None
        await until(lambda: stage.around.disk_threads.borrowed_tokens == 0)
        assert cache.open == [reader.content._blocks.stored]

    play(scene, FakeSite(DATA), cache)
    assert not cache.open


def test_what_is_opened_just_when_it_is_left_is_closed_again() -> None:
    """The thread is done, and nobody takes what it found."""
    cache = SlowCache()

    async def scene(stage: Stage) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stage.open)
            await until(lambda: bool(cache.asked))
            cache.answers.set()
            while not cache.open:
                time.sleep(0.001)  # noqa: ASYNC251  # the loop must not take it
            time.sleep(0.05)  # noqa: ASYNC251
            nursery.cancel_scope.cancel()
        assert not stage.library.contents()
        await until(lambda: not cache.open)

    play(scene, FakeSite(DATA), cache)
