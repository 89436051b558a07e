"""How the process of a mount handles memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from process_memory import resident_bytes

from imagefs import memory

MIB = 1 << 20
PIECE_BYTES = 100_000
"""Less than malloc has a place of its own for (M_MMAP_THRESHOLD, mallopt(3))."""


def test_what_was_freed_goes_back_to_the_machine() -> None:
    """Also where something small that is kept lies behind it."""
    pieces = [bytearray(b"\1" * PIECE_BYTES) for _ in range(1000)]
    kept = pieces[::50]
    full_bytes = resident_bytes()
    del pieces

    async def main() -> None:
        with trio.move_on_after(0):
            await memory.give_back()

    trio.run(main)
    assert resident_bytes() < full_bytes - 80 * MIB
    assert len(kept) == 20


@pytest.mark.parametrize(("worked_s", "is_given_back"), [(0.0, False), (1.0, True)])
def test_a_process_that_idles_is_left_in_peace(worked_s: float, is_given_back: bool) -> None:
    """What was freed is given back once it has worked again."""
    working_s = 0.0

    async def main() -> bool:
        nonlocal working_s
        async with trio.open_nursery() as nursery:
            nursery.start_soon(memory.give_back, lambda: working_s)
            await trio.testing.wait_all_tasks_blocked()
            pieces = [bytearray(b"\1" * PIECE_BYTES) for _ in range(1000)]
            kept = pieces[::50]
            del pieces
            freed_bytes = resident_bytes()
            working_s += worked_s
            await trio.sleep(10 * memory.GIVE_BACK_EVERY_S)
            nursery.cancel_scope.cancel()
            assert len(kept) == 20
        return resident_bytes() < freed_bytes - 80 * MIB

    assert trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.01)) == is_given_back


@pytest.fixture
def nothing_else_collects() -> Iterator[None]:
    """Python itself looks for no cycles."""
    gc.disable()
    yield
    gc.enable()


class Cycle:
    """Something that only the collector of cycles frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.usefixtures("nothing_else_collects")
def test_cycles_go_soon() -> None:
    """Python itself may wait with them for minutes."""
    cycle = weakref.ref(Cycle())

    async def main() -> None:
        with trio.move_on_after(0):
            await memory.give_back()

    assert cycle() is not None
    trio.run(main)
    assert cycle() is None


@pytest.mark.parametrize(("collecting_s", "least"), [(0.0, 90), (0.05, 15), (1.0, 1)])
@pytest.mark.usefixtures("nothing_else_collects")
def test_looking_for_cycles_is_a_small_part_of_the_work(collecting_s: float, least: int) -> None:
    """Where there is a lot to look at, it is done more rarely."""
    working_s = 0.0
    collected = 0

    def collecting(phase: str, _info: dict[str, int]) -> None:
        nonlocal working_s, collected
        if phase == "stop":
            collected += 1
            working_s += collecting_s

    async def work() -> None:
        nonlocal working_s
        await trio.sleep(memory.GIVE_BACK_EVERY_S / 2)
        for _ in range(100):
            working_s += 1.0
            await trio.sleep(memory.GIVE_BACK_EVERY_S)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(memory.give_back, lambda: working_s)
            await work()
            nursery.cancel_scope.cancel()

    gc.callbacks.append(collecting)
    try:
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        gc.callbacks.remove(collecting)
    assert collected >= least
    assert (collected - 1) * collecting_s <= memory.MOST_COLLECTING * working_s


@pytest.fixture
def thawed() -> Iterator[None]:
    """Whatever was set aside counts again afterwards."""
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
def test_cycles_are_looked_for_without_what_stays() -> None:
    """Modules and classes are set aside, so that little garbage is a quarter of the rest."""
    memory.prepare()
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < 10_000
