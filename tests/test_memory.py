"""How the process of a mount handles memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from imagefs import memory

MIB = 1 << 20
PIECE_BYTES = 100_000
"""Less than malloc has a place of its own for (M_MMAP_THRESHOLD, mallopt(3))."""


def resident_bytes() -> int:
    """The memory of this process (proc_pid_status(5))."""
    fields = dict(line.partition(":")[::2] for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) << 10


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
