"""Reading images from a service that misbehaves: the right bytes or an error, and no hang."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from collections.abc import Sequence
from dataclasses import replace

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
    outcome,
    play,
    read,
    staged,
    until,
)

from imagefs.api import Stop
from imagefs.errors import (
    CredentialsRefused,
    ImageChanged,
    ImagefsError,
    MalformedAnswer,
    Overloaded,
    RangeRefused,
    Refused,
    RefusedUnknownImage,
    TlsFailure,
    TransferBroken,
    TransferStalled,
    Unreachable,
)
from imagefs.store.blocks import BLOCK_BYTES
from imagefs.store.directory import CacheDirectory

DATA = made_up(3 * MIB - 1234)
OTHER = made_up(3 * MIB - 1234, seed=2)
HASTY = replace(PATIENT, reader_deadline_s=0.2, timed_out_for_s=0.0)
LAST = len(DATA) - 1


def copies(site: FakeSite, cache: CacheDirectory) -> None:
    """Check that a copy of the image succeeds and is exact."""

    async def scene(stage: Stage) -> None:
        assert difference(await stage.read_all(await stage.open()), DATA) is None

    play(scene, site, cache)


@pytest.mark.parametrize("ranged", [True, False])
@pytest.mark.parametrize("cut_after", [0, 1, BLOCK_BYTES, 700_000])
def test_a_cut_transfer_is_taken_up_again(cache: CacheDirectory, ranged: bool, cut_after: int) -> None:
    """A body that ends early costs another request, and the copy is exact."""
    cut = Answer(ranged=ranged, cut_after=cut_after, piece_bytes=90_000)
    copies(FakeSite(DATA, (cut, cut, Answer(ranged=ranged))), cache)


def test_a_server_that_cuts_every_answer_is_read_bit_by_bit(cache: CacheDirectory) -> None:
    """With Range, each answer only has to bring something."""
    copies(FakeSite(DATA, (Answer(cut_after=BLOCK_BYTES),)), cache)


@pytest.mark.parametrize("error", [TransferBroken("cut"), TransferStalled("nothing arrives")])
def test_a_stream_that_never_gets_further_fails(cache: CacheDirectory, error: Exception) -> None:
    """Without Range, a server that ends every stream at the same place is not asked for ever."""
    site = FakeSite(DATA, (Answer(ranged=False, cut_after=MIB, piece_bytes=BLOCK_BYTES),))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert difference(await read(reader, 0, 4096), DATA[:4096]) is None
        with pytest.raises(TransferBroken):
            await read(reader, 2 * MIB, 4096)

    play(scene, site, cache)
    assert len(site.requests) <= 6


@pytest.mark.parametrize(
    "flips", [(True, False), (False, True), (True, False, True), (False, True, False, True)]
)
def test_the_server_changes_its_mind_about_ranges(cache: CacheDirectory, flips: tuple[bool, ...]) -> None:
    """What the server can do is learned again with each answer."""
    copies(FakeSite(DATA, [*[Answer(ranged=flip, cut_after=MIB) for flip in flips], Answer()]), cache)


class RangeRefuser(FakeSite):
    """A service that refuses the next *refusals* ranges; ``wholes`` counts how often it was asked for everything."""

    refusals: float = math.inf
    wholes = 0

    def retrieve(
        self, image_id: str, size_bytes: int, start: int = 0, end: int | None = None, *, stop: Stop
    ) -> FakeBody:
        if end is None:
            self.wholes += 1
        elif self.refusals > 0:
            self.refusals -= 1
            raise RangeRefused("not this range")
        return super().retrieve(image_id, size_bytes, start, end, stop=stop)


@pytest.mark.parametrize("honoured_before", [None, False, True])
def test_a_server_that_refuses_every_range_is_read_as_a_whole(
    cache: CacheDirectory, honoured_before: bool | None
) -> None:
    """One stream brings everything, wherever the reading begins."""
    site = RangeRefuser(DATA, (Answer(ranged=False),))

    async def scene(stage: Stage) -> None:
        stage.around.link.ranged = honoured_before
        reader = await stage.open()
        assert difference(await read(reader, 2 * MIB, 4096), DATA[2 * MIB : 2 * MIB + 4096]) is None
        assert difference(await stage.read_all(reader), DATA) is None

    play(scene, site, cache)
    assert site.wholes <= 2


def test_a_range_that_is_refused_once_is_asked_for_again(cache: CacheDirectory) -> None:
    """Where ranges were honoured before, one refusal does not cost the whole content."""
    site = RangeRefuser(DATA)
    site.refusals = 1

    async def scene(stage: Stage) -> None:
        stage.around.link.ranged = True
        assert difference(await read(await stage.open(), LAST - 10, 10), DATA[LAST - 10 : LAST]) is None

    play(scene, site, cache)
    assert site.wholes == 0


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (TransferBroken("not the content"), TransferBroken),
        (TlsFailure("no certificate"), TlsFailure),
        (CredentialsRefused("no such key"), CredentialsRefused),
        (Refused("not today"), TransferBroken),
        (RefusedUnknownImage("invalid image"), ImageChanged),
        (KeyError("a bug"), TransferBroken),
    ],
)
def test_a_refusal_reaches_the_reader_and_ends_the_asking(
    cache: CacheDirectory, error: Exception, seen: type[Exception]
) -> None:
    """What trying again does not mend is told at once, and nothing more is asked in the background."""
    site = FakeSite(DATA, (Answer(error=error),))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        with pytest.raises(seen):
            await read(reader, 0, MIB)
        asked = len(site.requests)
        await trio.sleep(0.02)
        assert len(site.requests) == asked <= 5
        assert stage.errors[IMAGE]
        site.script = (Answer(),)
        assert difference(await read(await stage.open(), 0, MIB), DATA[:MIB]) is None

    play(scene, site, cache)


def test_a_refused_readahead_is_not_asked_for_again_and_again(cache: CacheDirectory) -> None:
    """While nobody waits, a refusal is not answered with more requests."""
    data = made_up(24 * MIB)
    site = FakeSite(data)

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        for offset in range(0, 4 * MIB, BLOCK_BYTES):
            assert (
                difference(await read(reader, offset, BLOCK_BYTES), data[offset : offset + BLOCK_BYTES])
                is None
            )
        site.script = (Answer(error=Refused("no more")),)
        for offset in range(4 * MIB, 24 * MIB, BLOCK_BYTES):
            got = await outcome(lambda at=offset: read(reader, at, BLOCK_BYTES))
            if isinstance(got, Exception):
                break
        asked = len(site.requests)
        await trio.sleep(0.05)
        assert len(site.requests) <= asked + 2

    play(scene, site, cache)


@pytest.mark.parametrize("error", [Unreachable("no route"), Overloaded("503")])
def test_an_outage_is_waited_out(cache: CacheDirectory, error: Exception) -> None:
    """A service that comes back within the deadline is not noticed."""
    copies(FakeSite(DATA, (*[Answer(error=error)] * 10, Answer())), cache)


@pytest.mark.parametrize(
    ("error", "seen"), [(Unreachable("no route"), Unreachable), (Overloaded("503"), TransferBroken)]
)
def test_an_outage_that_lasts_names_its_cause(
    cache: CacheDirectory, error: Exception, seen: type[Exception]
) -> None:
    """At the deadline, the reader is told why nothing came, not only that nothing came."""

    async def scene(stage: Stage) -> None:
        with pytest.raises(seen, match=str(error)):
            await read(await stage.open(), 0, 10)

    play(scene, FakeSite(DATA, (Answer(error=error),)), cache, HASTY)


def test_silence_ends_at_the_deadline(cache: CacheDirectory) -> None:
    """Where nothing at all happens, the reader gets an error by its deadline, and the next one is served."""
    gate = threading.Event()

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        with pytest.raises(TransferStalled):
            await read(reader, 0, 10)
        gate.set()
        assert difference(await read(reader, 0, 10), DATA[:10]) is None

    play(scene, FakeSite(DATA, (Answer(gate=gate),)), cache, HASTY)


def test_a_deadline_is_not_waited_for_twice(cache: CacheDirectory) -> None:
    """The kernel reads a page again that could not be read ahead: it gets the same error at once."""
    hasty = replace(PATIENT, reader_deadline_s=0.5, timed_out_for_s=60.0)

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        with pytest.raises(Unreachable):
            await read(reader, 0, 10)
        started = trio.current_time()
        with pytest.raises(Unreachable):
            await read(reader, 0, 10)
        assert trio.current_time() - started < hasty.reader_deadline_s

    play(scene, FakeSite(DATA, (Answer(error=Unreachable("no route")),)), cache, hasty)


def test_a_deadline_that_passed_is_over_when_something_arrives(cache: CacheDirectory) -> None:
    """The service is back: a reader that goes on does not get the error of before."""
    gate = threading.Event()
    site = FakeSite(made_up(20 * MIB), (Answer(gate=gate), Answer()))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        with pytest.raises(TransferStalled):
            await read(reader, 0, 10)
        gate.set()
        await until(lambda: stage.around.traffic.fetched_bytes > 0)
        there = 15 * MIB
        assert difference(await read(reader, there, 10), site.data[there : there + 10]) is None

    play(scene, site, cache, replace(PATIENT, reader_deadline_s=0.2, timed_out_for_s=60.0))


class BadPart(FakeSite):
    """A service that fails for the second half of the image, and sends the first one slowly."""

    asked_in_vain = 0

    def retrieve(
        self, image_id: str, size_bytes: int, start: int = 0, end: int | None = None, *, stop: Stop
    ) -> FakeBody:
        if start >= size_bytes // 2:
            self.asked_in_vain += 1
            raise TransferStalled("nothing of this part arrives")
        return super().retrieve(image_id, size_bytes, start, end, stop=stop)


def test_who_waits_for_a_part_that_fails_is_told_while_others_go_on(cache: CacheDirectory) -> None:
    """Neither does the progress of others put off its deadline, nor does that deadline end the others' waiting."""
    data = made_up(32 * MIB)
    site = BadPart(data, (Answer(piece_bytes=BLOCK_BYTES, pause_s=0.05),))
    settings = replace(
        PATIENT, reader_deadline_s=2.0, timed_out_for_s=60.0, backoff_s=(0.05,), answer_tries=10_000
    )
    told: list[tuple[bytes | Exception, int]] = []
    beside: list[bytes] = []

    async def scene(stage: Stage) -> None:
        stage.around.link.ranged = True
        stage.around.link.note_rate = lambda size_bytes, elapsed_s: None  # type: ignore[method-assign]
        good, bad = await stage.open(), await stage.open()
        offset = 0

        async def wait_in_vain() -> None:
            for _ in range(2):
                told.append((await outcome(lambda: read(bad, 20 * MIB, 10)), offset))
            beside.append(await read(await stage.open(), 15 * MIB, 10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_in_vain)
            while offset < len(data) // 2 and not beside:
                got = await read(good, offset, BLOCK_BYTES)
                assert difference(got, data[offset : offset + BLOCK_BYTES]) is None
                offset += BLOCK_BYTES
            assert [type(error) for error, _ in told] == [TransferStalled, TransferStalled]
            assert told[0][1] == told[1][1], "the second wait took as long as the first"
            assert beside == [data[15 * MIB :][:10]]

    play(scene, site, cache, settings)
    assert site.asked_in_vain > 1


def test_who_is_being_served_does_not_fail_with_others(cache: CacheDirectory) -> None:
    """A part of an image that cannot be had is the error of those who wait for it alone."""
    gate = threading.Event()
    site = BadPart(DATA, (Answer(gate=gate),))
    got: list[bytes | Exception] = []

    async def scene(stage: Stage) -> None:
        stage.around.link.ranged = True
        good, bad = await stage.open(), await stage.open()

        async def wait_for_what_comes() -> None:
            got.append(await outcome(lambda: read(good, 0, 10)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for_what_comes)
            await until(lambda: len(site.requests) == 1)
            with pytest.raises(TransferStalled):
                await read(bad, 2 * MIB, 10)
            gate.set()
        assert got == [DATA[:10]]

    play(scene, site, cache)


def test_resets_of_all_connections_at_once_are_one_failure(cache: CacheDirectory) -> None:
    """Parallel transfers that break together do not use up the tries."""
    data = made_up(40 * MIB)
    gate = threading.Event()
    site = FakeSite(data)

    async def scene(stage: Stage) -> None:
        stage.around.link.ranged = True
        stage.around.link.note_rate(MIB, 0.05)
        stage.around.link.note_rate = lambda size_bytes, elapsed_s: None  # type: ignore[method-assign]
        reader = await stage.open()
        for offset in range(0, 8 * MIB, MIB):
            await read(reader, offset, MIB)
        before = len(site.requests)
        site.script = (*[Answer()] * before, *[Answer(gate=gate, cut_after=0)] * 8, Answer())

        async def reset() -> None:
            await until(lambda: len(site.requests) >= before + 4)
            site.script = (Answer(),)  # who asks again gets an answer, however many were asked at once
            gate.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reset)
            assert difference(await stage.read_all(reader, MIB), data) is None

    # The pause is one that they all fall into, however busy the machine is.
    play(scene, site, cache, replace(PATIENT, backoff_s=(1.0,)))


def test_all_who_wait_for_what_always_breaks_are_told_by_the_same_tries(cache: CacheDirectory) -> None:
    """Each of them has as many as one alone, and not one after the other."""
    site = FakeSite(made_up(32 * MIB), (Answer(cut_after=0),))
    told: list[bytes | Exception] = []

    async def scene(stage: Stage) -> None:
        stage.around.link.ranged = True

        async def wait(offset: int) -> None:
            reader = await stage.open()
            told.append(await outcome(lambda: read(reader, offset, 10)))

        async with trio.open_nursery() as nursery:
            for place in range(1, 9):
                nursery.start_soon(wait, place * 3 * MIB)

    play(scene, site, cache, replace(PATIENT, backoff_s=(0.1,)))
    assert [type(error) for error in told] == [TransferBroken] * 8
    # On a busy machine one may just be looking at its deadline when the others are told, and begins anew.
    assert len(site.requests) <= 2 * 8 * PATIENT.answer_tries


def test_a_second_source_is_used_when_the_first_is_gone(cache: CacheDirectory) -> None:
    """Replicas of one content stand in for each other."""

    class HalfGone(FakeSite):
        def retrieve(self, image_id, size_bytes, start=0, end=None, *, stop=None):  # type: ignore[no-untyped-def]
            if image_id == "1":
                raise RefusedUnknownImage("invalid image")
            return super().retrieve(image_id, size_bytes, start, end, stop=stop)

    async def scene(stage: Stage) -> None:
        first, _ = await stage.open("1"), await stage.open("2")
        assert difference(await stage.read_all(first), DATA) is None

    play(scene, HalfGone(DATA), cache)


def test_without_threads_readers_fail_and_the_loop_lives(
    cache: CacheDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no thread can be started, readers get errors; afterwards all goes on."""

    class NoThreads:
        async def acquire_on_behalf_of(self, borrower: object) -> None:
            raise RuntimeError("can't start new thread")

    async def scene(stage: Stage) -> None:
        whole = stage.around
        reader = await stage.open()
        reader.content._fetcher._around = replace(whole, transfer_threads=NoThreads())
        with pytest.raises(TransferBroken):
            await read(reader, 0, 10)
        reader.content._fetcher._around = whole
        assert difference(await stage.read_all(reader), DATA) is None

    play(scene, FakeSite(DATA), cache)


def test_a_bug_in_a_check_fails_its_readers_only(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a background task is logged, fails who waits, and leaves the blocks to be checked again."""
    site = FakeSite(DATA)

    async def fill(stage: Stage) -> None:
        await read(await stage.open(), 0, MIB)

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        blocks = reader.content._blocks
        blocks.check = lambda first, end: 1 // 0  # type: ignore[method-assign]
        with pytest.raises(TransferBroken):
            await read(reader, 0, 10)
        del blocks.check
        assert difference(await read(reader, 0, 10), DATA[:10]) is None

    for scene_ in (fill, scene):
        cache = open_cache(tmp_path / "cache")
        play(scene_, site, cache)
        cache.close()
    assert "A background task of a content failed" in caplog.text
    caplog.clear()


def test_shutting_does_not_wait_for_a_silent_service(cache: CacheDirectory) -> None:
    """Open transfers are aborted when the library is shut, whatever they are waiting for."""
    never = threading.Event()

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        with trio.move_on_after(0.02):
            await read(reader, 0, 10)

    site = FakeSite(DATA, (Answer(gate=never),))
    play(scene, site, cache)
    assert all(body.closed for body in site.bodies)


def test_the_end_does_not_wait_for_a_service_that_does_not_answer(cache: CacheDirectory) -> None:
    """A request without an answer outlives the loop in its thread, and is of no consequence."""
    answered = threading.Event()

    class Mute(FakeSite):
        def retrieve(self, image_id, size_bytes, start=0, end=None, *, stop=None):  # type: ignore[no-untyped-def]
            answered.wait()
            return super().retrieve(image_id, size_bytes, start, end, stop=stop)

    async def main() -> None:
        async with staged(Mute(DATA), cache, shut_s=0.02) as stage:
            with trio.move_on_after(0.02):
                await read(await stage.open(), 0, 10)

    trio.run(main)
    assert not answered.is_set()
    answered.set()


class ForgetfulSite(FakeSite):
    """Keeps no body, only tells how many live on."""

    def __init__(self, data: bytes, script: Sequence[Answer]) -> None:
        super().__init__(data, script)
        self.living: weakref.WeakSet[FakeBody] = weakref.WeakSet()

    def retrieve(
        self, image_id: str, size_bytes: int, start: int = 0, end: int | None = None, *, stop: Stop
    ) -> FakeBody:
        body = super().retrieve(image_id, size_bytes, start, end, stop=stop)
        self.living.add(body)
        self.bodies.clear()
        return body


def test_a_failure_that_is_remembered_holds_nothing_of_its_transfer(cache: CacheDirectory) -> None:
    """Each transfer has a mebibyte to receive into, which the traceback of its error leads to."""
    site = ForgetfulSite(DATA, (Answer(cut_after=0),))

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        assert isinstance(await outcome(lambda: read(reader, 0, len(DATA))), TransferBroken)
        with trio.fail_after(30):
            await until(lambda: not site.living)

    gc.disable()  # which would come to it in the end
    try:
        play(scene, site, cache)
    finally:
        gc.enable()
    assert len(site.requests) > 3


class OneRefuses(FakeSite):
    """A service that fails for the image that the content was first opened as."""

    failure: Exception

    def retrieve(
        self, image_id: str, size_bytes: int, start: int = 0, end: int | None = None, *, stop: Stop
    ) -> FakeBody:
        body = super().retrieve(image_id, size_bytes, start, end, stop=stop)
        if image_id == IMAGE:
            raise self.failure
        return body


@pytest.mark.parametrize(
    "failure",
    [
        TransferBroken("cut"),
        TransferStalled("slow"),
        Unreachable("silent"),
        Refused("not now"),
        MalformedAnswer("404 without a reason"),
    ],
    ids=repr,
)
def test_where_one_image_fails_its_replica_serves(cache: CacheDirectory, failure: Exception) -> None:
    """Whoever reads the one or the other gets all bytes, and the one that failed is not asked again for each piece."""
    site = OneRefuses(DATA)
    site.failure = failure

    async def scene(stage: Stage) -> None:
        first = await stage.open()
        second = await stage.open("replica")
        assert difference(await stage.read_all(second), DATA) is None
        assert difference(await stage.read_all(first), DATA) is None

    play(scene, site, cache)
    assert [image_id for image_id, _, _ in site.requests][:2] == [IMAGE, "replica"]
    assert sum(image_id == IMAGE for image_id, _, _ in site.requests) <= 3


def test_an_image_that_is_refused_without_a_replica_fails_at_once(cache: CacheDirectory) -> None:
    """What the service says is what its readers are told."""
    site = OneRefuses(DATA)
    site.failure = Refused("not now")

    async def scene(stage: Stage) -> None:
        reader = await stage.open()
        with pytest.raises(ImagefsError, match="not now"):
            await read(reader, 0, 10)

    play(scene, site, cache)
    assert len(site.requests) == 1
