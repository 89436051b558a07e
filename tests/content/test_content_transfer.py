"""One answer on its way into blocks, without a loop: what is reported is collected."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from content_fakes import MIB, Answer, FakeSite, made_up
from hypothesis import given
from hypothesis import strategies as st
from process_memory import resident_bytes

from imagefs.content.transfer import Transfer
from imagefs.errors import CacheFull, OutOfResources, TransferBroken
from imagefs.store.blocks import BLOCK_BYTES, block_sum

DATA = made_up(10 * BLOCK_BYTES + 77)
TOTAL = 11


class Desk:
    """Takes blocks and events as a content would."""

    def __init__(self, refuse: Callable[[int], None] = lambda first: None) -> None:
        self.blocks: dict[int, bytes] = {}
        self.order: list[int] = []
        self.heard: list[tuple[Any, ...]] = []
        self._refuse = refuse

    def sink(self, first: int, data: memoryview, sums: Sequence[bytes]) -> None:
        self._refuse(first)
        for i, known in enumerate(sums):
            block = bytes(data[i * BLOCK_BYTES : (i + 1) * BLOCK_BYTES])
            assert block_sum(block) == known
            self.blocks[first + i] = block
            self.order.append(first + i)
        assert len(data) == sum(len(self.blocks[first + i]) for i in range(len(sums)))

    def post(self, function: Callable[..., None], *args: Any) -> None:
        function(*args)

    def opened(self, transfer: Transfer, ranged: bool, first: int, end: int) -> None:
        self.heard.append(("opened", ranged, first, end))

    def arrived(self, transfer: Transfer, first: int, count: int) -> None:
        assert all(first + i in self.blocks for i in range(count))
        self.heard.append(("arrived", first, count))

    def ended(self, transfer: Transfer, error: Exception | None) -> None:
        self.heard.append(("ended", error))

    @property
    def error(self) -> Exception | None:
        """What the transfer ended with."""
        assert [event[0] for event in self.heard].count("ended") == 1
        assert self.heard[-1][0] == "ended"
        found: Exception | None = self.heard[-1][1]
        return found


def transfer(
    site: FakeSite,
    desk: Desk,
    first: int = 0,
    end: int = TOTAL,
    paused_s: float = 0.01,
    clock: Callable[[], float] = time.monotonic,
) -> Transfer:
    """A transfer of the blocks from *first* to before *end*."""
    return Transfer(
        image_id="1",
        size_bytes=len(site.data),
        first=first,
        end=end,
        retriever=site,
        sink=desk.sink,
        events=desk,
        post=desk.post,
        paused_s=paused_s,
        clock=clock,
    )


@given(
    st.integers(0, TOTAL - 1),
    st.integers(1, TOTAL),
    st.booleans(),
    st.integers(1000, 3 * BLOCK_BYTES),
    st.none() | st.integers(0, len(DATA)),
)
def test_whole_blocks_arrive_in_order_however_the_body_is_cut(
    first: int, end: int, ranged: bool, piece_bytes: int, cut_after: int | None
) -> None:
    """Pieces of any size, and an end anywhere, give the blocks before it and an error exactly if some are missing."""
    end = max(first + 1, end)
    site = FakeSite(DATA, (Answer(ranged=ranged, piece_bytes=piece_bytes, cut_after=cut_after),))
    desk = Desk()
    job = transfer(site, desk, first, end)
    job.set_limit(TOTAL)
    job.run()
    start, stop = (first, end) if ranged else (0, TOTAL)
    size = min(stop * BLOCK_BYTES, len(DATA)) - start * BLOCK_BYTES
    complete = cut_after is None or cut_after >= size
    assert (desk.error is None) == complete
    came = stop - start if complete else (cut_after or 0) // BLOCK_BYTES
    assert desk.order == list(range(start, start + came))
    for block, found in desk.blocks.items():
        assert found == DATA[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES]
    assert all(body.closed for body in site.bodies)


def test_the_stream_pauses_at_its_limit_and_goes_on() -> None:
    """A higher limit lets a paused stream run on; nothing is read beyond the limit but what one piece brings."""
    site = FakeSite(DATA, (Answer(ranged=False, piece_bytes=BLOCK_BYTES),))
    desk = Desk()
    job = transfer(site, desk, 0, 3, paused_s=30)
    thread = threading.Thread(target=job.run)
    thread.start()
    while len(desk.order) < 3:
        pass
    thread.join(0.01)
    assert thread.is_alive()
    assert desk.order == [0, 1, 2]
    job.set_limit(5)
    while len(desk.order) < 5:
        pass
    job.stop()
    thread.join()
    assert desk.order == [0, 1, 2, 3, 4]
    assert desk.error is None


def test_transfers_that_wait_take_next_to_no_memory() -> None:
    """Each has room for a mebibyte, of which nothing is written to before it comes."""
    gate = threading.Event()
    site = FakeSite(DATA, (Answer(gate=gate),))
    jobs = [transfer(site, Desk()) for _ in range(64)]
    threads = [threading.Thread(target=job.run) for job in jobs]
    before_bytes = resident_bytes()
    for thread in threads:
        thread.start()
    while sum(body.waits for body in site.bodies) < len(jobs):
        time.sleep(0.001)
    taken_bytes = resident_bytes() - before_bytes
    for job in jobs:
        job.stop()
    for thread in threads:
        thread.join()
    assert taken_bytes < len(jobs) * MIB // 4


def test_a_pause_without_end_gives_the_stream_up() -> None:
    """Nobody needed more, so that is no error."""
    site = FakeSite(DATA, (Answer(ranged=False, piece_bytes=BLOCK_BYTES),))
    desk = Desk()
    transfer(site, desk, 0, 2).run()
    assert desk.order == [0, 1]
    assert desk.error is None
    assert site.bodies[0].closed


def test_stopping_before_it_begins_asks_nobody() -> None:
    """A transfer whose turn comes too late costs nothing."""
    site = FakeSite(DATA)
    desk = Desk()
    job = transfer(site, desk)
    job.stop()
    job.run()
    assert site.requests == []
    assert desk.error is None


def test_stopping_while_it_waits_for_bytes() -> None:
    """A silent body is aborted, and what came before stays."""
    site = FakeSite(DATA, (Answer(gate=threading.Event()),))
    desk = Desk()
    job = transfer(site, desk)
    thread = threading.Thread(target=job.run)
    thread.start()
    while not desk.heard:
        pass
    job.stop()
    job.stop()
    thread.join()
    assert desk.error is None
    assert desk.heard[0] == ("opened", True, 0, TOTAL)


def test_what_was_gathered_before_a_stop_is_handed_on() -> None:
    """Bytes that came over the network are kept, also where the stop finds them between two pieces."""

    class StopsItself(FakeSite):
        def note_sent(self, size_bytes: int) -> None:
            super().note_sent(size_bytes)
            if self.sent_bytes > 3 * BLOCK_BYTES:
                job.stop()

    site = StopsItself(DATA, (Answer(piece_bytes=BLOCK_BYTES // 2 + 1),))
    desk = Desk()
    job = transfer(site, desk)
    job.run()
    assert desk.order == [0, 1, 2]
    assert desk.error is None


def test_what_was_gathered_before_a_cut_is_handed_on() -> None:
    """A whole block that came at once with a part of the next."""
    site = FakeSite(DATA, (Answer(piece_bytes=BLOCK_BYTES // 2 + 1, cut_after=2 * BLOCK_BYTES + 5),))
    desk = Desk()
    transfer(site, desk, clock=lambda: 0.0).run()
    assert desk.order == [0, 1]
    assert isinstance(desk.error, TransferBroken)


@pytest.mark.parametrize("error", [CacheFull("full"), TransferBroken("cut"), KeyError("a bug")])
def test_what_the_sink_raises_is_reported(error: Exception) -> None:
    """The worker thread never dies of it, and the body is closed."""

    def refuse(first: int) -> None:
        raise error

    site = FakeSite(DATA)
    desk = Desk(refuse)
    transfer(site, desk).run()
    assert desk.error is error
    assert site.bodies[0].closed


def test_a_lack_of_memory_is_said_in_words() -> None:
    """It passes, so that the transfer is worth another try."""

    def refuse(first: int) -> None:
        raise MemoryError

    desk = Desk(refuse)
    transfer(FakeSite(DATA), desk).run()
    assert isinstance(desk.error, OutOfResources)
    assert "no memory" in str(desk.error)


def test_what_opening_raises_is_reported() -> None:
    """A refusal ends the transfer before it is opened."""
    desk = Desk()
    transfer(FakeSite(DATA, (Answer(error=TransferBroken("no content")),)), desk).run()
    assert [event[0] for event in desk.heard] == ["ended"]
    assert isinstance(desk.error, TransferBroken)


def test_a_body_that_goes_on_is_reported() -> None:
    """All blocks are here by then, and yet it was not the content that was announced."""
    desk = Desk()
    transfer(FakeSite(DATA, (Answer(goes_on=True),)), desk).run()
    assert desk.order == list(range(TOTAL))
    assert isinstance(desk.error, TransferBroken)


def test_a_rate_is_that_of_receiving_alone() -> None:
    """What this machine does with the bytes takes ten times as long and does not count, nor does too little to tell."""
    clock = itertools.count().__next__
    rates: list[tuple[int, float] | None] = []

    class Slow(Desk):
        def sink(self, first: int, data: memoryview, sums: Sequence[bytes]) -> None:
            for _ in range(10):
                clock()

        def arrived(self, transfer: Transfer, first: int, count: int) -> None:
            rates.append(transfer.rate_sample())

    transfer(FakeSite(made_up(8 * MIB)), Slow(), 0, 64, clock=clock).run()
    told = [rate for rate in rates if rate is not None]
    assert told == [(22 * BLOCK_BYTES, 4.0), (2 * MIB, 2.0), (2 * MIB, 2.0)]


def test_who_waits_for_the_first_block_need_not_wait_for_a_mebibyte() -> None:
    """Pieces begin with a block and double, up to a mebibyte."""
    desk = Desk()
    transfer(FakeSite(made_up(4 * MIB)), desk, 0, 32).run()
    assert [event[2] for event in desk.heard if event[0] == "arrived"] == [1, 2, 4, 8, 8, 8, 1]


def test_stopping_while_the_service_is_silent() -> None:
    """An answer that has not begun is waited for no longer."""
    asked = threading.Event()

    class Silent(FakeSite):
        def retrieve(self, image_id, size_bytes, start=0, end=None, *, stop):  # type: ignore[no-untyped-def]
            asked.set()
            stop.sleep(60)
            stop.raise_if_set("content")
            raise AssertionError("nobody stopped it")

    desk = Desk()
    job = transfer(Silent(DATA), desk)
    thread = threading.Thread(target=job.run)
    thread.start()
    asked.wait(60)
    job.stop()
    thread.join()
    assert desk.heard == [("ended", None)]
