"""Going on where a reader was killed, a thread failed, or the service is away: nothing stays stuck."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from content_fakes import (
    IMAGE,
    MIB,
    PATIENT,
    Answer,
    FakeBody,
    FakeSite,
    Stage,
    difference,
    made_up,
    open_cache,
    play,
    read,
    until,
)

from imagefs.api import Stop
from imagefs.errors import CredentialsRefused, ImageChanged, TransferBroken, Unreachable
from imagefs.store.blocks import BLOCK_BYTES
from imagefs.store.directory import CacheDirectory

DATA = made_up(3 * MIB - 1234)
LAST_BLOCK = len(DATA) // BLOCK_BYTES * BLOCK_BYTES
LAST_BLOCK = len(DATA) // BLOCK_BYTES * BLOCK_BYTES


class MuteAtFirst(FakeSite):
    """The first request stays without an answer until ``answered`` is set."""

    def __init__(self, data: bytes, script: Sequence[Answer]) -> None:
        super().__init__(data, script)
        self.answered = threading.Event()

    def retrieve(
        self, image_id: str, size_bytes: int, start: int = 0, end: int | None = None, *, stop: Stop
    ) -> FakeBody:
        body = super().retrieve(image_id, size_bytes, start, end, stop=stop)
        if len(self.requests) == 1:
            self.answered.wait()
        return body


@pytest.mark.parametrize("ranged", [True, False])
def test_a_killed_reader_leaves_no_one_waiting_for_its_request(cache: CacheDirectory, ranged: bool) -> None:
    """Who interrupts a copy that hangs and tries again is served by a request of its own, not by the late answer."""
    site = MuteAtFirst(DATA, (Answer(ranged=ranged),))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, reader, 0, 10)
            await until(lambda: bool(site.requests))
            nursery.cancel_scope.cancel()
        stage.library.close(reader)
        reader = await stage.open()
        with trio.fail_after(10):
            assert difference(await read(reader, 0, MIB), DATA[:MIB]) is None
            site.answered.set()
            assert difference(await stage.read_all(reader), DATA) is None

    try:
        play(scene, site, cache)
    finally:
        site.answered.set()
    assert site.sent_bytes <= 1.05 * len(DATA)


def fill(path: Path, size_bytes: int) -> None:
    """Leave the first *size_bytes* of the image in a cache at *path*, of an earlier mount."""

    async def scene(stage: Stage) -> None:
        await read(await stage.open(), 0, size_bytes)

    cache = open_cache(path)
    play(scene, FakeSite(DATA), cache)
    cache.close()


def test_cached_bytes_are_read_right_after_a_deadline_passed(tmp_path: Path) -> None:
    """The error that others get for a while after one waited in vain is not for those who need no service."""
    fill(tmp_path / "cache", MIB)
    settings = replace(PATIENT, reader_deadline_s=0.1, timed_out_for_s=60.0)

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        with pytest.raises(Unreachable):
            await read(reader, 2 * MIB, 10)
        assert difference(await read(reader, 0, 10), DATA[:10]) is None
        with pytest.raises(Unreachable):
            await read(reader, 2 * MIB, 10)

    cache = open_cache(tmp_path / "cache")
    play(scene, FakeSite(DATA, (Answer(error=Unreachable("no route")),)), cache, settings)
    cache.close()


def test_a_refusal_fails_only_who_needs_the_service(tmp_path: Path) -> None:
    """A reader whose bytes are cached, and are being checked, does not get the error of another's request."""
    fill(tmp_path / "cache", MIB)
    refused = threading.Event()

    async def scene(stage: Stage) -> None:
        content = (await stage.open()).content
        check = content._blocks.check

        def slow_check(first: int, end: int) -> list[int]:
            refused.wait()
            return check(first, end)

        content._blocks.check = slow_check  # type: ignore[method-assign]
        got: list[bytes] = []

        async def read_cached() -> None:
            got.append(await read(await stage.open(), 0, 10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_cached)
            with pytest.raises(CredentialsRefused):
                await read(await stage.open(), 2 * MIB, 10)
            refused.set()
        assert got == [DATA[:10]]

    cache = open_cache(tmp_path / "cache")
    try:
        play(scene, FakeSite(DATA, (Answer(error=CredentialsRefused("no such key")),)), cache)
    finally:
        refused.set()
    cache.close()


def failing_once(function: Callable[..., object]) -> Callable[..., object]:
    """*function*, but that its first call fails as where no thread is to be had."""
    failures = [RuntimeError("can't start new thread")]

    def call(*args: object) -> object:
        if failures:
            raise failures.pop()
        return function(*args)

    return call


def test_a_proof_that_failed_is_taken_up_again(
    cache: CacheDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Hashing that an exception ended goes on for the next reader, though no block arrives any more."""

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        hasher = reader.content._proof._hasher
        hasher.advance = failing_once(hasher.advance)  # type: ignore[assignment,method-assign]
        async with stage.around.hash_threads:
            assert difference(await read(reader, 0, LAST_BLOCK), DATA[:LAST_BLOCK]) is None
        with trio.fail_after(10):
            with pytest.raises(TransferBroken):
                await read(reader, LAST_BLOCK, BLOCK_BYTES)
            assert difference(await read(reader, LAST_BLOCK, BLOCK_BYTES), DATA[LAST_BLOCK:]) is None

    play(scene, FakeSite(DATA), cache)
    assert "A background task of a content failed" in caplog.text
    caplog.clear()


def test_starting_over_that_fails_is_survived(
    cache: CacheDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the old content cannot be dropped, its readers get an error, and later ones the right bytes."""
    site = FakeSite(DATA, (Answer(wrong_at=5), Answer()))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        blocks = reader.content._blocks
        blocks.drop = failing_once(blocks.drop)  # type: ignore[assignment,method-assign]
        with trio.fail_after(10):
            with pytest.raises(TransferBroken):
                await read(reader, 0, len(DATA))
            await until(lambda: reader.content._restart.is_idle)
            stage.library.close(reader)
            with pytest.raises(ImageChanged):  # held against what could not be dropped
                await stage.read_all(await stage.open())
            assert difference(await stage.read_all(await stage.open()), DATA) is None

    play(scene, site, cache)
    assert "A background task of a content failed" in caplog.text
    caplog.clear()


def test_a_closed_reader_s_transfer_is_of_use_to_the_next(cache: CacheDirectory) -> None:
    """What a stopped transfer still brings counts, and is not asked for again."""
    site = FakeSite(DATA, (Answer(piece_bytes=BLOCK_BYTES),))

    async def scene(stage: Stage) -> None:
        for _ in range(30):
            reader = await stage.open(IMAGE)
            with trio.move_on_after(0.003):
                await stage.read_all(reader)
            stage.library.close(reader)
        assert difference(await stage.read_all(await stage.open()), DATA) is None

    play(scene, site, cache)
    assert site.sent_bytes <= 2 * len(DATA)
