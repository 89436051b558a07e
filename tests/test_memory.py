"""How the process of a mount handles memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

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
