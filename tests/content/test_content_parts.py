"""The parts of the content room on their own: readahead, link, block map, hasher, waiters, background tasks."""

from __future__ import annotations

import hashlib
import os
import threading
from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing
from content_fakes import made_up
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from imagefs.content.background import Background
from imagefs.content.blockmap import ABSENT, CHECKING, COMING, READY, UNCHECKED, BlockMap
from imagefs.content.blocks import Blocks
from imagefs.content.content import Content
from imagefs.content.demand import Demand
from imagefs.content.generations import Generations
from imagefs.content.hashing import NICER, READ_BLOCKS, STEP_BLOCKS, Hasher
from imagefs.content.link import MAX_CONNECTIONS, MAX_SEGMENT_BYTES, MAX_SPARE_BYTES, MIN_SEGMENT_BYTES, Link
from imagefs.content.planning import Need
from imagefs.content.proof import Proof
from imagefs.content.readahead import MAX_WINDOW_BYTES, MIB, RESTLESS_JUMPS, SETTLED_BYTES, Readahead
from imagefs.content.reader import Reader
from imagefs.content.retries import Retries
from imagefs.content.settings import ContentSettings
from imagefs.content.waiters import Waiter, Waiters
from imagefs.errors import TransferBroken, Unreachable
from imagefs.store.blocks import BLOCK_BYTES

OFFSETS = st.integers(0, 1 << 40)
LENGTHS = st.integers(1, MIB)


@given(st.lists(st.tuples(OFFSETS, LENGTHS), max_size=50))
def test_the_window_never_exceeds_what_was_read(reads: list[tuple[int, int]]) -> None:
    """Whatever a reader does, what is fetched in vain is at most what it read, and bounded."""
    readahead = Readahead()
    for offset, length in reads:
        readahead.note(offset, length)
        assert 0 <= readahead.window_bytes <= min(MAX_WINDOW_BYTES, sum(length for _, length in reads))


@given(st.permutations(range(8)))
def test_a_sequential_reader_s_requests_may_arrive_in_any_order(order: list[int]) -> None:
    """The kernel's own requests, eight in flight and shuffled, still are one run that widens the window."""
    readahead = Readahead()
    for group in range(4):
        for at in order:
            readahead.note((group * 8 + at) * BLOCK_BYTES, BLOCK_BYTES)
    assert readahead.position == 32 * BLOCK_BYTES
    assert SETTLED_BYTES <= readahead.window_bytes <= 32 * BLOCK_BYTES


@given(OFFSETS, st.lists(LENGTHS, min_size=1, max_size=100))
def test_the_window_is_the_run(start: int, lengths: list[int]) -> None:
    """Who goes on is read ahead for as far as it came; who has just begun is not."""
    readahead = Readahead()
    readahead.position = start
    for length in lengths:
        readahead.note(readahead.position, length)
    run = sum(lengths)
    assert readahead.window_bytes == (0 if run < SETTLED_BYTES else min(run, MAX_WINDOW_BYTES))


def test_a_jump_starts_over_and_reading_again_does_not_widen() -> None:
    """A seek closes the window; the same bytes twice count once."""
    readahead = Readahead()
    for _ in range(10):
        readahead.note(0, MIB)
    assert readahead.window_bytes == MIB
    readahead.note(1 << 30, 4096)
    assert readahead.window_bytes == 0
    assert readahead.position == (1 << 30) + 4096


@given(st.lists(st.tuples(st.integers(1, 1 << 40), st.floats(0, 1e6)), max_size=20))
def test_connections_and_segments_stay_within_bounds(samples: list[tuple[int, float]]) -> None:
    """No measurement, however odd, asks for none or too many."""
    link = Link()
    for size_bytes, elapsed_s in samples:
        link.note_rate(size_bytes, elapsed_s)
        assert 1 <= link.connections <= MAX_CONNECTIONS
        assert MIN_SEGMENT_BYTES <= link.segment_bytes <= MAX_SEGMENT_BYTES


def test_slow_connections_are_used_together_and_a_fast_one_alone() -> None:
    """A second connection is only worth it where one does not fill the machine."""
    slow, fast = Link(), Link()
    slow.note_rate(10_000_000, 1.0)
    fast.note_rate(1_000_000_000, 1.0)
    assert (slow.connections, fast.connections) == (MAX_CONNECTIONS, 1)
    assert Link().connections == 1


def test_a_request_may_bring_what_comes_in_four_times_the_time_of_its_answer() -> None:
    """On a fast or a distant way that is much, and never more than sixteen mebibytes; on a slow one little."""
    fast, slow, unknown = Link(), Link(), Link()
    fast.note_rate(500_000_000, 1.0)
    fast.note_latency(0.002)
    assert fast.spare_bytes == 4_000_000
    fast.note_latency(1.0)
    assert fast.spare_bytes == MAX_SPARE_BYTES
    slow.note_rate(5_000_000, 1.0)
    slow.note_latency(0.02)
    assert slow.spare_bytes < 4 * BLOCK_BYTES
    assert unknown.spare_bytes == unknown.segment_bytes


def test_a_failure_after_something_came_is_the_first_in_a_row() -> None:
    """Though another transfer has failed just before: the pause is the shortest, not the longest."""
    now = 0.0
    retries = Retries(ContentSettings(), lambda: now)
    first = [retries.pause_after(TransferBroken("reset"), asked_at=now)]
    retries.arrived()
    first.append(retries.pause_after(TransferBroken("reset"), asked_at=now))
    assert retries.pausing
    together = retries.pause_after(TransferBroken("reset"), asked_at=now)
    now = 1.0
    second = retries.pause_after(TransferBroken("reset"), asked_at=now)
    assert all(pause_s is not None and pause_s <= 0.2 for pause_s in (*first, together))
    assert second is not None
    assert 0.25 <= second <= 0.5


def test_those_that_fail_together_use_up_their_tries_together() -> None:
    """One that was under way when the tries of others were used up has had as many; what is asked for later has not."""
    now = 0.0
    retries = Retries(ContentSettings(), lambda: now)

    def fail(asked_at: float) -> bool:
        """Whether it is tried again."""
        return retries.pause_after(TransferBroken("reset"), asked_at=asked_at) is not None

    for _ in range(ContentSettings().answer_tries - 1):
        assert [fail(now), fail(now)] == [True, True]
        now += 10
    asked_at = now
    now += 1
    assert [fail(asked_at), fail(asked_at)] == [False, False]
    now += 1
    assert [fail(now), fail(asked_at)] == [True, False]
    retries.arrived()
    assert fail(asked_at)


def test_a_reader_that_jumps_on_and_on_is_restless() -> None:
    """Until it reads on in one place."""
    readahead = Readahead()
    for jump in range(RESTLESS_JUMPS + 1):
        assert not readahead.restless
        readahead.note(jump * 10 * MIB, 4096)
    assert readahead.restless
    readahead.note(readahead.position, MIB)
    assert not readahead.restless


def test_readahead_is_planned_again_after_a_jump_back() -> None:
    """Who reads an image a second time does not wait at the end of each window until it is past the first end."""
    reader = Reader(cast(Content, None), 0)
    for _ in range(2):
        assert sum(reader.went_on(offset, BLOCK_BYTES) for offset in range(0, 8 * MIB, BLOCK_BYTES)) > 1


class BlockMapAgainstList(RuleBasedStateMachine):
    """Does to a BlockMap and to a list of states the same."""

    @initialize(present=st.binary(min_size=1, max_size=40))
    def start(self, present: bytes) -> None:
        self.map = BlockMap(present)
        self.model = [UNCHECKED if flag else ABSENT for flag in present]

    def span(self, place: tuple[int, int]) -> tuple[int, int]:
        first, end = sorted(at % (len(self.model) + 1) for at in place)
        return first, end

    PLACE = st.tuples(st.integers(0, 100), st.integers(0, 100))
    STATE = st.sampled_from([ABSENT, COMING, UNCHECKED, READY, CHECKING])

    @rule(place=PLACE, state=STATE)
    def set_all(self, place: tuple[int, int], state: int) -> None:
        first, end = self.span(place)
        self.map.set(first, end, state)
        self.model[first:end] = [state] * (end - first)

    @rule(place=PLACE, old=STATE, new=STATE)
    def replace_some(self, place: tuple[int, int], old: int, new: int) -> None:
        first, end = self.span(place)
        self.map.replace(first, end, old, new)
        self.model[first:end] = [new if state == old else state for state in self.model[first:end]]

    @rule(place=PLACE, state=STATE)
    def look(self, place: tuple[int, int], state: int) -> None:
        first, end = self.span(place)
        part = self.model[first:end]
        assert self.map.count(first, end, state) == part.count(state)
        assert self.map.all_ready(first, end) == all(each == READY for each in part)
        assert covered(self.map.absent_runs(first, end)) == where(self.model, ABSENT, first, end)
        assert covered(self.map.unchecked_runs(first, end)) == where(self.model, UNCHECKED, first, end)

    @invariant()
    def ready_runs_end_where_they_should(self) -> None:
        if not hasattr(self, "model"):
            return
        assert self.map.total == len(self.model)
        for first in range(len(self.model) + 1):
            end = self.map.end_of_ready(first)
            assert self.model[first:end] == [READY] * (end - first)
            assert end == len(self.model) or self.model[end] != READY


def covered(runs: object) -> list[int]:
    """The blocks of *runs*, which neither touch nor overlap."""
    blocks: list[int] = []
    for first, end in runs:  # type: ignore[attr-defined]
        assert first < end
        assert not blocks or blocks[-1] + 1 < first
        blocks.extend(range(first, end))
    return blocks


def where(model: list[int], state: int, first: int, end: int) -> list[int]:
    """The blocks of the range that are in *state*."""
    return [block for block in range(first, end) if model[block] == state]


TestBlockMap = BlockMapAgainstList.TestCase


@given(st.integers(1, 40 * BLOCK_BYTES), st.lists(st.integers(1, 20), max_size=10), st.data())
def test_the_md5_does_not_depend_on_the_steps(size_bytes: int, steps: list[int], data: st.DataObject) -> None:
    """However the frontier moves, and whatever is missing meanwhile, the MD5 is that of the whole."""
    content = made_up(size_bytes)
    missing: set[int] = set()

    def read(offset: int, buffer: memoryview) -> list[int]:
        wanted = range(offset // BLOCK_BYTES, -(-(offset + len(buffer)) // BLOCK_BYTES))
        gone = sorted(missing.intersection(wanted))
        buffer[:] = content[offset : offset + len(buffer)]
        return gone

    hasher = Hasher(size_bytes, read)
    total = -(-size_bytes // BLOCK_BYTES)
    for step in steps:
        hasher.frontier = min(total, hasher.frontier + step)
        missing |= set(data.draw(st.lists(st.integers(0, total - 1), max_size=2)))
        while gone := hasher.advance():
            assert set(gone) <= missing
            assert hasher.position <= min(gone) < hasher.position + READ_BLOCKS
            missing.difference_update(gone)
        assert hasher.position == hasher.frontier
    hasher.frontier = total
    missing.clear()
    assert not hasher.advance()
    assert hasher.finished
    assert hasher.hexdigest() == hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_hashing_goes_in_steps() -> None:
    """So that who waits for it sees it go on, and another content gets its turn."""
    hasher = Hasher(2 * STEP_BLOCKS * BLOCK_BYTES, lambda offset, buffer: [])
    hasher.frontier = 2 * STEP_BLOCKS
    hasher.advance()
    assert hasher.position == STEP_BLOCKS


def test_hashing_that_is_of_no_use_any_more_ends_with_the_piece_it_is_at() -> None:
    """A mount that ends does not wait for 64 MiB to be read and hashed on a slow machine."""

    def read(offset: int, buffer: memoryview) -> list[int]:
        hasher.stop()
        return []

    hasher = Hasher(STEP_BLOCKS * BLOCK_BYTES, read)
    hasher.frontier = STEP_BLOCKS
    hasher.advance()
    assert hasher.position == READ_BLOCKS


def niceness() -> int:
    """How nice this thread is."""
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.parametrize(("may", "nicer"), [(True, NICER), (False, 0)])
def test_hashing_goes_first_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch, may: bool, nicer: int
) -> None:
    """Only while it lasts, also where it fails: the thread is used for other things then."""
    at = [5]

    def change(which: int, who: int, priority: int) -> None:
        assert (which, who) == (os.PRIO_PROCESS, threading.get_native_id())
        if not may:
            raise PermissionError
        at.append(priority)

    def read(offset: int, buffer: memoryview) -> list[int]:
        seen.append(at[-1])
        raise OSError

    seen: list[int] = []
    monkeypatch.setattr(os, "getpriority", lambda which, who: at[-1])
    monkeypatch.setattr(os, "setpriority", change)
    hasher = Hasher(BLOCK_BYTES, read)
    hasher.frontier = 1
    with pytest.raises(OSError):
        hasher.advance()
    assert seen == [5 + nicer]
    assert at[-1] == 5


@pytest.mark.root
def test_root_may_let_hashing_go_first() -> None:
    """A niceness that setpriority(2) takes for a thread of the caller alone."""
    seen: list[int] = []

    def read(offset: int, buffer: memoryview) -> list[int]:
        seen.append(niceness())
        return []

    before = niceness()
    hasher = Hasher(BLOCK_BYTES, read)
    hasher.frontier = 1
    hasher.advance()
    assert (seen, niceness()) == ([before + NICER], before)


def test_background_tasks_are_awaited_and_their_bugs_stay_here(caplog: pytest.LogCaptureFixture) -> None:
    """idle waits for all of them; an exception is logged and told, and ends nothing else."""
    told: list[Exception] = []
    done: list[str] = []

    async def work(gate: trio.Event, bug: Exception | None) -> None:
        await gate.wait()
        if bug is not None:
            raise bug
        done.append("work")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            background = Background(nursery.start_soon, told.append)
            await background.idle()
            gate = trio.Event()
            background.start(work, gate, None)
            background.start(work, gate, KeyError("x"))
            with trio.move_on_after(0.01) as patience:
                await background.idle()
            assert patience.cancelled_caught
            gate.set()
            await background.idle()
            assert done == ["work"]

    trio.run(main)
    assert [type(error) for error in told] == [KeyError]
    assert "A background task" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("unhashed", "needs", "hot"),
    [
        ((0, 0), [], (0, 0)),
        ((0, 0), [Need(3, 4, 20), Need(7, 8, 9)], (3, 20)),
        ((50, 100), [], (50, 100)),
        ((50, 100), [Need(3, 4, 20)], (3, 100)),
        ((50, 100), [Need(70, 80, 200)], (50, 200)),
    ],
)
def test_what_is_read_or_not_hashed_yet_is_not_evicted(
    unhashed: tuple[int, int], needs: list[Need], hot: tuple[int, int]
) -> None:
    """Also where a reader is in front of what is to be hashed: that would have to be fetched again."""
    proof = cast(Proof, SimpleNamespace(unhashed=unhashed))
    blocks, generations = cast(Blocks, None), cast(Generations, None)
    assert Demand((), (), BlockMap(bytes(300)), blocks, proof, generations).hot(needs) == hot


def test_who_waits_where_a_deadline_has_just_passed_is_told_the_same() -> None:
    """Others that got something meanwhile have not mended that."""
    settings = ContentSettings()
    told: list[str] = []

    async def main() -> None:
        waiters = Waiters("84473", settings, trio.current_time)

        async def wait() -> None:
            waiter = Waiter(cast(Reader, SimpleNamespace()), 8, 9, proof=False, nearer_at=trio.current_time())
            try:
                while True:
                    await waiters.sleep(waiter, lambda: None, needs_service=True)
            except Unreachable as error:
                told.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            waiters.set_back(Unreachable("no way there"), 8, 9)
            await trio.sleep(settings.reader_deadline_s + settings.timed_out_for_s / 2)
            waiters.arrived(0, 8)
            await wait()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert told == ["no way there"] * 2
