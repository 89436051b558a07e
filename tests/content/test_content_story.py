"""Random readers against a service that misbehaves at random: the right bytes or an error, always."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import trio
from content_fakes import MIB, PATIENT, Answer, FakeSite, Stage, made_up, open_cache, outcome, play, read
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagefs.errors import (
    CredentialsRefused,
    ImagefsError,
    Overloaded,
    Refused,
    RefusedUnknownImage,
    TransferBroken,
    TransferStalled,
    Unreachable,
)

DATA = made_up(3 * MIB - 1234)
OTHER = made_up(3 * MIB - 1234, seed=2)

QUICK = replace(PATIENT, wrong_for_s=0.01)

GOOD = st.builds(Answer, ranged=st.booleans(), piece_bytes=st.sampled_from([7_001, 131_072, 400_000, MIB]))

LOUD = st.one_of(
    st.builds(
        Answer,
        ranged=st.booleans(),
        piece_bytes=st.sampled_from([50_000, MIB]),
        cut_after=st.integers(0, len(DATA)),
    ),
    st.sampled_from(
        [
            Answer(error=error)
            for error in (
                Unreachable("no route"),
                Overloaded("503"),
                TransferBroken("not the content"),
                CredentialsRefused("no"),
                Refused("no"),
                RefusedUnknownImage("invalid image"),
                KeyError("a bug"),
            )
        ]
    ),
)
"""Faults that show at once."""

SILENT = st.one_of(
    st.builds(Answer, ranged=st.booleans(), wrong_at=st.integers(0, len(DATA) - 1)),
    st.builds(Answer, ranged=st.booleans(), data=st.just(OTHER)),
)
"""Wrong bytes, which only the check finds."""

READS = st.lists(
    st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, MIB), st.booleans()), min_size=1, max_size=12
)
"""Offset, length, and whether the handle is closed and opened again before."""


async def follow(stage: Stage, reads: list[tuple[int, int, bool]], got: list[bytes | Exception]) -> None:
    """One reader's life; what it gets is right, or an error that says what happened."""
    reader = await stage.open()
    for offset, length, reopen in reads:
        if reopen:
            stage.library.close(reader)
            reader = await stage.open()
        got.append(await outcome(lambda at=offset, size=length, by=reader: read(by, at, size)))
        await trio.lowlevel.checkpoint()
    stage.library.close(reader)


def tell(
    site: FakeSite, stories: list[list[tuple[int, int, bool]]], copies: int = 0
) -> list[tuple[int, int, bytes | Exception]]:
    """Let readers follow their *stories*, beside *copies* of the image, then copy it again: what each read got."""
    gains: list[list[bytes | Exception]] = [[] for _ in stories]

    async def copy(stage: Stage) -> None:
        got = await outcome(lambda: read_whole(stage))
        assert got == DATA or isinstance(got, ImagefsError)

    async def scene(stage: Stage) -> None:
        async with trio.open_nursery() as nursery:
            for reads, gain in zip(stories, gains, strict=True):
                nursery.start_soon(follow, stage, reads, gain)
            for _ in range(copies):
                nursery.start_soon(copy, stage)
        site.script = (Answer(),)
        got: bytes | Exception = b""
        for _ in range(4):  # what was asked for before may still bring wrong bytes
            await trio.sleep(1.1 * QUICK.wrong_for_s)
            got = await outcome(lambda: read_whole(stage))
            if got == DATA:
                return
            assert isinstance(got, ImagefsError)
        raise AssertionError(f"A service that behaves again is not enough: {got!s}")

    with tempfile.TemporaryDirectory() as directory:
        cache = open_cache(Path(directory) / "cache")
        try:
            play(scene, site, cache, QUICK)
        finally:
            cache.close()
    return [
        (offset, length, result)
        for reads, gain in zip(stories, gains, strict=True)
        for (offset, length, _), result in zip(reads, gain, strict=True)
    ]


async def read_whole(stage: Stage) -> bytes:
    """A copy through a handle of its own."""
    reader = await stage.open()
    try:
        return await stage.read_all(reader, 300_000)
    finally:
        stage.library.close(reader)


many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@many
@given(st.lists(GOOD, min_size=1, max_size=4), st.lists(READS, min_size=1, max_size=4))
def test_a_service_that_only_changes_its_mind(
    script: list[Answer], stories: list[list[tuple[int, int, bool]]]
) -> None:
    """Without faults, every read is exact, whatever becomes of ranges meanwhile."""
    for offset, length, got in tell(FakeSite(DATA, script), stories):
        assert got == DATA[offset : offset + length], f"{length} bytes at {offset}: {str(got)[:80]}"


@many
@given(st.lists(GOOD | LOUD, min_size=1, max_size=12), GOOD, st.lists(READS, min_size=1, max_size=4))
def test_a_service_that_fails(
    script: list[Answer], last: Answer, stories: list[list[tuple[int, int, bool]]]
) -> None:
    """With faults that show, every read is exact or an error, and nobody is left to wait for the deadline."""
    for offset, length, got in tell(FakeSite(DATA, [*script, last]), stories):
        if isinstance(got, Exception):
            assert isinstance(got, ImagefsError)
            assert not isinstance(got, TransferStalled), f"{length} bytes at {offset} never came"
        else:
            assert got == DATA[offset : offset + length]


@many
@given(
    st.lists(GOOD | LOUD | SILENT, min_size=1, max_size=8),
    GOOD,
    st.lists(READS, min_size=1, max_size=3),
    st.integers(0, 2),
)
def test_a_service_that_lies(
    script: list[Answer], last: Answer, stories: list[list[tuple[int, int, bool]]], copies: int
) -> None:
    """With wrong bytes too, whoever gets all of the image gets it right, and nobody waits for the deadline."""
    for offset, length, got in tell(FakeSite(DATA, [*script, last]), stories, copies):
        if isinstance(got, Exception):
            assert isinstance(got, ImagefsError)
            assert not isinstance(got, TransferStalled), f"{length} bytes at {offset} never came"


@many
@given(st.booleans(), st.integers(1, 4), st.sampled_from([4096, 131_072, 1_000_003]))
def test_copies_at_once_move_every_byte_once(ranged: bool, copies: int, step: int) -> None:
    """Where nothing fails, copies that run at the same time cost hardly more than the image's size."""
    site = FakeSite(DATA, (Answer(ranged=ranged, piece_bytes=90_000),))
    reads = [(offset, step, False) for offset in range(0, len(DATA), step)]

    async def scene(stage: Stage) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(copies):
                nursery.start_soon(follow, stage, reads, [])

    with tempfile.TemporaryDirectory() as directory:
        cache = open_cache(Path(directory) / "cache")
        play(scene, site, cache, replace(QUICK, paused_s=20.0))  # no reader is too slow for its stream
        cache.close()
    assert site.sent_bytes <= 1.05 * len(DATA)
