"""Wrong bytes from the service: never delivered as right, never mixed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
import trio
import trio.testing
from content_fakes import (
    IMAGE,
    MIB,
    PATIENT,
    Answer,
    FakeSite,
    Stage,
    difference,
    key_of,
    made_up,
    outcome,
    play,
    read,
    until,
)

from imagefs.content.blocks import Blocks, Stored
from imagefs.errors import (
    ContentError,
    ContentWrong,
    ImageChanged,
    TransferBroken,
)
from imagefs.store.blocks import BLOCK_BYTES, block_sum
from imagefs.store.directory import CacheDirectory

DATA = made_up(3 * MIB - 1234)
OTHER = made_up(3 * MIB - 1234, seed=2)
HASTY = replace(PATIENT, reader_deadline_s=0.2, timed_out_for_s=0.0)
LAST = len(DATA) - 1


@pytest.mark.parametrize("ranged", [True, False])
def test_corrupt_once_is_fetched_once_more(cache: CacheDirectory, ranged: bool) -> None:
    """Whole content that fails its check is fetched again; who has seen nothing wrong never notices."""
    bad = Answer(ranged=ranged, wrong_at=MIB + 5)
    site = FakeSite(DATA, (*[bad] * 1, Answer(ranged=ranged)))

    async def scene(stage: Stage) -> None:
        assert difference(await read(await stage.open(), 0, len(DATA)), DATA) is None

    play(scene, site, cache)
    assert site.sent_bytes <= 2.1 * len(DATA)


def test_who_got_wrong_bytes_gets_an_error_and_no_mix(cache: CacheDirectory) -> None:
    """A copy that took wrong bytes from the first transfer fails; the next copy is exact."""
    site = FakeSite(DATA, (Answer(ranged=False, wrong_at=5), Answer(ranged=False)))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert await read(reader, 0, 10) != DATA[:10]
        with pytest.raises(ContentWrong):
            await stage.read_all(reader)
        with pytest.raises(ContentWrong):
            await read(reader, 0, 10)
        assert not reader.content.keepable
        assert difference(await stage.read_all(await stage.open()), DATA) is None
        assert (reader.content.proved, reader.content.keepable) == (True, False)

    play(scene, site, cache)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(data=OTHER),
        Answer(ranged=False, data=OTHER),
        Answer(error=TransferBroken("another length is announced")),
        Answer(cut_after=0),
    ],
    ids=["other bytes", "other whole", "refused head", "cut"],
)
def test_content_that_is_not_what_the_details_say_casts_doubt_on_them(
    cache: CacheDirectory, answer: Answer
) -> None:
    """They are asked for again: the image may have been replaced meanwhile."""
    site = FakeSite(DATA, (Answer(), answer))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        await read(reader, 0, 10)
        assert stage.doubted == []
        assert isinstance(await outcome(lambda: stage.read_all(reader)), ContentError)
        assert set(stage.doubted) == {IMAGE}

    play(scene, site, cache)


def test_content_that_was_replaced_is_not_fetched_again(cache: CacheDirectory) -> None:
    """The details are waited for, which say so; whoever reads the old content is told that it is stale."""
    site = FakeSite(DATA, (Answer(), Answer(data=OTHER)))

    async def scene(stage: Stage) -> None:
        async with trio.open_nursery() as nursery:

            async def look_up(looked_up: trio.Event) -> None:
                await trio.sleep(0.05)
                reader.content.vanished(IMAGE)
                looked_up.set()

            def doubt(_image_id: str) -> trio.Event:
                looked_up = trio.Event()
                nursery.start_soon(look_up, looked_up)
                return looked_up

            stage.library._around = replace(stage.around, doubt=doubt)
            reader = await stage.open()
            await read(reader, 0, 10)
            with pytest.raises(ImageChanged):
                await stage.read_all(reader)

    play(scene, site, cache)
    assert site.sent_bytes <= 1.1 * len(DATA)


def test_corrupt_always_is_an_error_after_two_transfers(cache: CacheDirectory) -> None:
    """Content that is wrong twice is refused for a while, then fetched again."""
    site = FakeSite(DATA, (Answer(wrong_at=LAST),))
    settings = replace(PATIENT, wrong_for_s=0.1)

    async def scene(stage: Stage) -> None:
        for _ in range(3):
            with pytest.raises(ContentWrong):
                await read(await stage.open(), 0, len(DATA))
        assert site.sent_bytes <= 2.1 * len(DATA)
        await trio.sleep(0.15)
        site.script = (Answer(),)
        assert difference(await read(await stage.open(), 0, len(DATA)), DATA) is None

    play(scene, site, cache, settings)


def test_content_is_not_fetched_anew_before_what_is_done_with_the_old_has_ended(
    cache: CacheDirectory,
) -> None:
    """What is still being hashed or checked of content that is given up would count for the next."""

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        await read(reader, 0, 10)
        under_way = trio.Event()
        reader.content._jobs.start(under_way.wait)
        reader.content._restart.begin({})
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not reader.content._restart.is_idle
        fetched = len(site.requests)
        with trio.move_on_after(0.05):
            await read(reader, 0, 10)
        assert len(site.requests) == fetched
        under_way.set()
        assert difference(await read(reader, 0, 10), DATA[:10]) is None
        assert len(site.requests) > fetched

    site = FakeSite(DATA)
    play(scene, site, cache)


def test_other_bytes_than_before_are_never_mixed(cache: CacheDirectory) -> None:
    """A stream that starts over with another content makes the reader's handle stale."""
    first = Answer(ranged=False, cut_after=MIB)
    site = FakeSite(DATA, (first, Answer(ranged=False, data=OTHER), Answer(ranged=False)))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert difference(await read(reader, 0, 4096), DATA[:4096]) is None
        with pytest.raises(ImageChanged):
            await stage.read_all(reader)
        assert difference(await stage.read_all(await stage.open()), DATA) is None

    play(scene, site, cache)


def test_proved_content_is_not_given_up_for_other_bytes(tmp_path: object, cache: CacheDirectory) -> None:
    """What was proved stays; evicted parts of it that arrive wrong are an error, and mend when they arrive right."""
    site = FakeSite(DATA)

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert difference(await stage.read_all(reader), DATA) is None
        await until(lambda: reader.content._blocks.stored.verified)
        reader.content._blocks.stored.forget_blocks([2])
        site.script = (Answer(data=OTHER),)
        with pytest.raises(ContentWrong):
            await read(reader, 2 * BLOCK_BYTES, 10)
        assert difference(await read(reader, 0, 10), DATA[:10]) is None
        site.script = (Answer(),)
        assert difference(await stage.read_all(reader), DATA) is None

    play(scene, site, cache)


class WrongBlock(FakeSite):
    """A service that sends what is wrong only after others have got something, and counts how often."""

    sent_wrong = 0

    def retrieve(self, image_id, size_bytes, start=0, end=None, *, stop):  # type: ignore[no-untyped-def]
        if self.script[0].wrong_at is not None and start <= self.script[0].wrong_at < (end or size_bytes):
            self.sent_wrong += 1
            others = self.sent_bytes + 3 * BLOCK_BYTES
            while self.sent_bytes < others and not stop.is_set():
                stop.sleep(0.002)
        return super().retrieve(image_id, size_bytes, start, end, stop=stop)


def test_a_block_that_is_wrong_twice_is_an_error_whatever_else_arrives(cache: CacheDirectory) -> None:
    """Right blocks that arrive meanwhile say nothing of it; and once nobody waits for it, it is not asked for."""
    site = WrongBlock(DATA)
    wrong = 20
    others = [block for block in range(24) if block != wrong]

    async def scene(stage: Stage) -> None:
        good, bad, first = [await stage.open() for _ in range(3)]
        assert difference(await stage.read_all(first), DATA) is None
        stage.library.close(first)
        await until(lambda: good.content._blocks.stored.verified)
        good.content._blocks.stored.forget_blocks(range(24))
        site.script = (Answer(wrong_at=wrong * BLOCK_BYTES),)
        over = False

        async def go_on_reading() -> None:
            while not over:
                for block in others:
                    got = await read(good, block * BLOCK_BYTES, 10)
                    assert difference(got, DATA[block * BLOCK_BYTES :][:10]) is None
                good.content._blocks.stored.forget_blocks(others)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(go_on_reading)
            with trio.fail_after(10), pytest.raises(ContentWrong):
                await read(bad, wrong * BLOCK_BYTES, 10)
            over = True

    play(scene, site, cache)
    assert site.sent_wrong == 2


def test_a_block_that_is_wrong_twice_is_an_error_whatever_else_fails(cache: CacheDirectory) -> None:
    """A connection that breaks in between does not make the second time the first."""
    wrong = 20 * BLOCK_BYTES
    bad_answers = (Answer(ranged=False, wrong_at=wrong), Answer(ranged=False, cut_after=MIB))
    site = FakeSite(DATA, (Answer(ranged=False),))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert difference(await stage.read_all(reader), DATA) is None
        await until(lambda: reader.content._blocks.stored.verified)
        reader.content._blocks.stored.forget_blocks([20])
        begun = len(site.requests)
        site.script = (Answer(),) * begun + bad_answers * 20
        with pytest.raises(ContentWrong):
            await read(reader, wrong, 10)
        assert len(site.requests) == begun + 3

    play(scene, site, cache)


def test_where_one_image_is_wrong_its_replica_is_fetched(cache: CacheDirectory) -> None:
    """The second try is not one of the same wrong bytes."""

    class OneWrong(FakeSite):
        def retrieve(self, image_id, size_bytes, start=0, end=None, *, stop):  # type: ignore[no-untyped-def]
            self.script = (Answer(wrong_at=MIB + 5) if image_id == IMAGE else Answer(),)
            return super().retrieve(image_id, size_bytes, start, end, stop=stop)

    site = OneWrong(DATA)

    async def scene(stage: Stage) -> None:
        await stage.open()
        assert difference(await read(await stage.open("replica"), 0, len(DATA)), DATA) is None

    play(scene, site, cache)
    assert site.sent_bytes <= 2.1 * len(DATA)


def test_of_two_streams_with_other_bytes_one_is_told(cache: CacheDirectory) -> None:
    """Also where the second comes while the first is being written: never other bytes than those with the checksum."""
    stored = cache.content(key_of(DATA))
    blocks = Blocks(stored, IMAGE)
    right, other = (memoryview(content[:BLOCK_BYTES]) for content in (DATA, OTHER))
    told: list[Exception] = []

    def second() -> None:
        try:
            blocks.write(0, other, [block_sum(other)])
        except ImageChanged as error:
            told.append(error)

    thread = threading.Thread(target=second)

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(stored, name)

        def write_blocks(self, first: int, data: memoryview, sums: Sequence[bytes]) -> None:
            if thread.ident is None:
                thread.start()
                thread.join(0.2)
            stored.write_blocks(first, data, sums)

    blocks.stored = cast(Stored, Slow())
    blocks.write(0, right, [block_sum(right)])
    thread.join()
    assert len(told) == 1
    assert stored.check_block(0)
    buffer = memoryview(bytearray(BLOCK_BYTES))
    assert blocks.read(0, buffer) == []
    assert difference(bytes(buffer), bytes(right)) is None
    stored.close()
