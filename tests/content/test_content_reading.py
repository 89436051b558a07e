"""Reading images from a service that behaves."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

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
    open_cache,
    play,
    read,
    until,
)

from imagefs.content.link import SPARE_LATENCIES
from imagefs.content.planning import MOST_TRANSFERS
from imagefs.content.readahead import RESTLESS_JUMPS
from imagefs.errors import ImageChanged, RefusedUnknownImage
from imagefs.store.blocks import BLOCK_BYTES
from imagefs.store.directory import CacheDirectory

DATA = made_up(3 * MIB - 1234)


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("step", [4096, BLOCK_BYTES, 1_000_003])
def test_a_copy_is_exact_and_moves_every_byte_once(cache: CacheDirectory, ranged: bool, step: int) -> None:
    """Reading front to back gives the image, with hardly more bytes sent than it has."""
    site = FakeSite(DATA, (Answer(ranged=ranged, piece_bytes=50_000),))

    async def scene(stage: Stage) -> None:
        assert difference(await stage.read_all(await stage.open(), step), DATA) is None

    play(scene, site, cache)
    assert site.sent_bytes <= 1.05 * len(DATA)


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("size_bytes", [0, 1, 4096, 4097, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_sizes_around_the_units(cache: CacheDirectory, ranged: bool, size_bytes: int) -> None:
    """Contents that end in or at the withheld tail, a block's end, or are empty, are read whole."""
    data = made_up(size_bytes)

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert difference(await read(reader, 0, size_bytes + 100), data) is None
        assert difference(await read(reader, size_bytes, 10), b"") is None
        assert difference(await read(reader, size_bytes + 10**6, 10), b"") is None

    play(scene, FakeSite(data, (Answer(ranged=ranged),)), cache)


def test_a_look_at_the_header_costs_a_header(cache: CacheDirectory) -> None:
    """Who reads a few pages at the start causes about a mebibyte of traffic."""
    site = FakeSite(made_up(8 * MIB))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        for offset in (0, 4096, 32768, 65536):
            assert difference(await read(reader, offset, 4096), site.data[offset : offset + 4096]) is None

    play(scene, site, cache)
    assert site.sent_bytes <= MIB
    assert all(body.end <= MIB for body in site.bodies)


def test_a_seek_reads_around_the_place_only(cache: CacheDirectory) -> None:
    """Where ranges are honoured, bytes in the middle cost no more than their blocks."""
    site = FakeSite(made_up(16 * MIB))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        for offset in (9 * MIB, 5 * MIB, 12 * MIB):
            assert difference(await read(reader, offset, 10_000), site.data[offset : offset + 10_000]) is None

    play(scene, site, cache)
    assert site.sent_bytes <= 3 * 2 * BLOCK_BYTES


def test_many_readers_share_one_transfer(cache: CacheDirectory) -> None:
    """Readers that copy the same image at once, through two images, cause its bytes to be sent once."""
    site = FakeSite(DATA, (Answer(piece_bytes=70_000),))
    copies: list[bytes] = []

    async def scene(stage: Stage) -> None:
        async def copy(image_id: str) -> None:
            copies.append(await stage.read_all(await stage.open(image_id)))

        async with trio.open_nursery() as nursery:
            for image_id in ("1", "2", "1", "2"):
                nursery.start_soon(copy, image_id)

    play(scene, site, cache)
    assert Counter(copies) == {DATA: 4}
    assert site.sent_bytes <= 1.05 * len(DATA)


def test_what_completes_a_copy_waits_for_the_proof(cache: CacheDirectory) -> None:
    """The last block that nobody got yet is not delivered before all was found right."""
    before = BLOCK_BYTES * (len(DATA) // BLOCK_BYTES)

    async def scene(stage: Stage) -> None:
        reader, other = await stage.open(), await stage.open()
        got = b""

        async def read_rest() -> None:
            nonlocal got
            got = bytes(await read(other, before, len(DATA) - before))

        async with trio.open_nursery() as nursery, stage.around.hash_threads:  # nothing is hashed meanwhile
            assert difference(await read(reader, 0, before), DATA[:before]) is None
            nursery.start_soon(read_rest)
            for _ in range(10):
                await trio.sleep(0.002)
            assert got == b""
            assert not reader.content.proved
        assert got == DATA[before:]
        assert reader.content.proved

    play(scene, FakeSite(DATA), cache)


def test_a_look_at_the_end_costs_the_end(cache: CacheDirectory) -> None:
    """Who reads the last bytes of an image that nobody has read does not have it fetched whole."""
    site = FakeSite(DATA)

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert await read(reader, len(DATA) - 100, 100) == DATA[-100:]
        assert not reader.content.proved

    play(scene, site, cache)
    assert site.sent_bytes <= 2 * BLOCK_BYTES


def test_an_image_without_checksum_is_delivered_whole(cache: CacheDirectory) -> None:
    """Where the service gives no checksum, the size is all that is checked."""
    key = key_of(DATA)
    unsummed = type(key)(key.size_bytes, None, IMAGE)

    async def scene(stage: Stage) -> None:
        assert difference(await stage.read_all(await stage.open()), DATA) is None

    play(scene, FakeSite(DATA), cache, key=unsummed)


@pytest.mark.parametrize("blocks_read", [3, 400])
def test_what_was_cached_is_not_fetched_again(tmp_path: Path, blocks_read: int) -> None:
    """After a remount, cached bytes are served from disk, and proved from there, however many they are."""
    data = made_up(40 * MIB + 5)
    first = FakeSite(data)
    size = min(len(data) - 5000, blocks_read * BLOCK_BYTES)

    async def start(stage: Stage) -> None:
        reader = await stage.open()
        for offset in range(0, size, MIB):
            await read(reader, offset, min(MIB, size - offset))

    cache = open_cache(tmp_path / "cache")
    play(start, first, cache)
    cache.close()

    second = FakeSite(data)

    async def finish(stage: Stage) -> None:
        reader = await stage.open()
        assert difference(await read(reader, len(data) - 10, 10), data[-10:]) is None
        assert difference(await stage.read_all(reader, MIB), data) is None

    cache = open_cache(tmp_path / "cache")
    play(finish, second, cache)
    assert first.sent_bytes + second.sent_bytes <= 1.05 * len(data)

    async def again(stage: Stage) -> None:
        reader = await stage.open()
        assert reader.content.keepable
        assert difference(await stage.read_all(reader, MIB), data) is None

    third = FakeSite(data)
    play(again, third, cache)
    cache.close()
    assert third.requests == []


def test_damage_on_disk_is_found_and_mended(tmp_path: Path) -> None:
    """A flipped bit in the cache is found at the first read after a remount, and the block is fetched again."""
    site = FakeSite(DATA)

    async def copy(stage: Stage) -> None:
        assert difference(await stage.read_all(await stage.open()), DATA) is None

    cache = open_cache(tmp_path / "cache")
    play(copy, site, cache)
    cache.close()
    (file,) = (path for path in (tmp_path / "cache" / "content").glob("*/*"))
    with file.open("r+b") as damaged:
        damaged.seek(BLOCK_BYTES + 77)
        damaged.write(bytes(3))

    cache = open_cache(tmp_path / "cache")
    again = FakeSite(DATA)
    play(copy, again, cache)
    cache.close()
    assert again.sent_bytes <= MIB


def test_damage_that_cannot_be_mended_is_told_at_once(tmp_path: Path) -> None:
    """Of an image that is gone, damaged blocks come from nowhere."""
    site = FakeSite(DATA)

    async def copy(stage: Stage) -> None:
        assert difference(await stage.read_all(await stage.open()), DATA) is None

    async def read_of_the_gone(stage: Stage) -> None:
        reader = await stage.open()
        stage.library.vanished([IMAGE])
        reader.content._blocks.check = lambda first, end: [first]  # type: ignore[method-assign]
        with trio.fail_after(PATIENT.reader_deadline_s / 2), pytest.raises(ImageChanged):
            await read(reader, 0, 10)

    for scene in (copy, read_of_the_gone):
        cache = open_cache(tmp_path / "cache")
        play(scene, site, cache)
        cache.close()


def test_what_is_complete_outlives_the_image(cache: CacheDirectory) -> None:
    """An image that is gone from the account is read as far as it is cached; beyond, it is stale."""
    site = FakeSite(made_up(20 * MIB))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        await read(reader, 0, 100_000)
        stage.library.vanished([IMAGE])
        assert difference(await read(reader, 5, 90_000), site.data[5:90_005]) is None
        with pytest.raises(ImageChanged):
            await read(reader, 15 * MIB, 10)
        with pytest.raises(ImageChanged):
            await read(reader, len(site.data) - 10, 10)

    play(scene, site, cache)


def test_who_reads_an_image_that_is_moved_goes_on_with_its_replica(cache: CacheDirectory) -> None:
    """As soon as the service does not know the image any more; a replica that goes as well is none."""
    data = made_up(20 * MIB)
    gone = RefusedUnknownImage("invalid image")
    site = FakeSite(data, (Answer(), Answer(error=gone), Answer(), Answer(error=gone)))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        await read(reader, 0, 100_000)
        stage.library.moved("another", "its replica")
        stage.library.moved(IMAGE, "replica")
        assert difference(await read(reader, 15 * MIB, 10), data[15 * MIB : 15 * MIB + 10]) is None
        assert [image_id for image_id, _, _ in site.requests] == [IMAGE, IMAGE, "replica"]
        with pytest.raises(ImageChanged):
            await read(reader, 8 * MIB, 10)

    play(scene, site, cache)


def test_who_waits_for_an_image_that_vanishes_is_told(cache: CacheDirectory) -> None:
    """A reader whose transfer breaks off after the image vanished does not wait for its deadline."""
    gate = threading.Event()
    site = FakeSite(made_up(20 * MIB), (Answer(gate=gate, cut_after=MIB // 2),))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()

        async def vanish() -> None:
            await until(lambda: bool(site.requests))
            stage.library.vanished([IMAGE])
            gate.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(vanish)
            with pytest.raises(ImageChanged):
                await read(reader, 0, MIB)

    play(scene, site, cache)


def test_a_paused_stream_goes_on_for_the_next_reader(cache: CacheDirectory) -> None:
    """Without Range, a stream that nobody needs ends after its pause, and the next reader starts another."""
    site = FakeSite(made_up(8 * MIB), (Answer(ranged=False, piece_bytes=BLOCK_BYTES),))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert difference(await read(reader, 0, 4096), site.data[:4096]) is None
        await until(lambda: site.bodies[0].closed)
        assert site.sent_bytes <= 2 * MIB
        assert difference(await read(reader, 4 * MIB, 4096), site.data[4 * MIB : 4 * MIB + 4096]) is None

    play(scene, site, cache, replace(PATIENT, paused_s=0.02))


def test_closing_stops_the_transfer(cache: CacheDirectory) -> None:
    """When the last reader goes, so does what was being fetched for it; the next one reads on."""
    gate = threading.Event()
    site = FakeSite(made_up(20 * MIB), (Answer(gate=gate), Answer()))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        with trio.move_on_after(0.05):
            await read(reader, 0, 4096)
        stage.library.close(reader)
        assert reader.content.open_readers == 0
        reader = await stage.open()
        assert difference(await read(reader, 0, 4096), site.data[:4096]) is None

    play(scene, site, cache, PATIENT)
    assert site.bodies[0].closed


def test_who_comes_next_does_not_wait_for_an_answer_that_never_came(cache: CacheDirectory) -> None:
    """A request without any answer cannot be ended; what it was to bring is asked for once more."""
    answered = threading.Event()

    class MuteAtFirst(FakeSite):
        def retrieve(self, image_id, size_bytes, start=0, end=None, *, stop=None):  # type: ignore[no-untyped-def]
            body = super().retrieve(image_id, size_bytes, start, end, stop=stop)
            if len(self.requests) == 1:
                answered.wait()
            return body

    site = MuteAtFirst(made_up(MIB))

    async def scene(stage: Stage) -> None:
        try:
            reader = await stage.open()
            with trio.move_on_after(0.05):
                await read(reader, 0, 4096)
            stage.library.close(reader)
            reader = await stage.open()
            assert difference(await read(reader, 0, 4096), site.data[:4096]) is None
        finally:
            answered.set()

    play(scene, site, cache, PATIENT)


def test_who_leaves_is_not_waited_for(cache: CacheDirectory) -> None:
    """A program that is killed while it reads needs nothing any more; what the handle is read for next is all."""
    gate = threading.Event()
    site = FakeSite(made_up(20 * MIB), (Answer(gate=gate),))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        with trio.move_on_after(0.05) as waiting:
            await read(reader, 0, 4096)
        assert waiting.cancelled_caught
        assert all(need.demanded == need.first for need in reader.content.needs())
        gate.set()
        assert difference(await read(reader, 0, 4096), site.data[:4096]) is None

    play(scene, site, cache, PATIENT)


def test_a_reader_that_jumps_on_and_on_gets_more_than_it_asks_for(cache: CacheDirectory) -> None:
    """A few looks at parts of an image cost a block each; later ones what the connection brings meanwhile."""
    places = [4 * MIB * n + 9 * MIB for n in range(RESTLESS_JUMPS + 1)]
    data = made_up(places[-1] + 16 * MIB)
    site = FakeSite(data)

    async def scene(stage: Stage) -> None:
        stage.around.link.ranged = True
        stage.around.link.note_rate(1 << 30, 1.0)
        stage.around.link.note_rate = lambda size_bytes, elapsed_s: None  # type: ignore[method-assign]
        stage.around.link.note_latency(1 / 2048)
        stage.around.link.note_latency = lambda elapsed_s: None  # type: ignore[method-assign]
        reader = await stage.open()
        for place in random.Random(1).sample(places, len(places)):
            assert await read(reader, place, 4096) == data[place : place + 4096]

    play(scene, site, cache)
    fetched = [end - start for _, start, end in site.requests]
    assert fetched[: RESTLESS_JUMPS - 2] == [BLOCK_BYTES] * (RESTLESS_JUMPS - 2)
    assert max(fetched) == fetched[-1] == BLOCK_BYTES + SPARE_LATENCIES * MIB // 2


def test_an_image_that_does_not_come_leaves_threads_to_others(cache: CacheDirectory) -> None:
    """However many wait for parts of it; once it comes, each gets its own."""
    places = [2 * BLOCK_BYTES * n for n in range(MOST_TRANSFERS + 8)]
    gate = threading.Event()
    site = FakeSite(made_up(places[-1] + BLOCK_BYTES), (Answer(gate=gate),))

    async def scene(stage: Stage) -> None:
        stage.around.link.ranged = True

        async def look(place: int) -> None:
            assert await read(await stage.open(), place, 4096) == site.data[place : place + 4096]

        async with trio.open_nursery() as nursery:
            for place in places:
                nursery.start_soon(look, place)
            await trio.testing.wait_all_tasks_blocked(0.05)
            (content,) = stage.library.contents()
            assert len(content._fetcher._transfers) == MOST_TRANSFERS
            gate.set()

    play(scene, site, cache)
