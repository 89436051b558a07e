"""The kernel forgets what it is asked to, unless somebody uses it."""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from dummy_mount import Filesystem

from imagefs.fuse.pruning import MESSAGE, MOST_INODES, prune


@pytest.mark.pruning
def test_the_kernel_forgets_what_nobody_uses(filesystem: Filesystem) -> None:
    """Also what was read of it; what is open stays until it is closed."""
    (filesystem.mountpoint / "gone").stat()
    filesystem.wait_for("forgotten gone")
    descriptor = os.open(filesystem.mountpoint / "gone-but-open", os.O_RDONLY)
    try:
        assert os.pread(descriptor, 10, 0) == bytes(10)
        (filesystem.mountpoint / "gone-too").stat()
        lines = iter(filesystem.next_line, "forgotten gone-too")
        assert not [line for line in lines if line.startswith("forgotten")]
        assert os.pread(descriptor, 10, 0) == bytes(10)
    finally:
        os.close(descriptor)
    filesystem.wait_for("forgotten gone-but-open")
    assert filesystem.end() == 0


def messages(received: bytes) -> list[tuple[int, ...]]:
    """The inode numbers of each message; all else of it is checked."""
    found = []
    while received:
        size_bytes, code, unique, count, padding, spare = MESSAGE.unpack_from(received)
        assert (code, unique, padding, spare) == (9, 0, 0, 0)
        assert size_bytes == MESSAGE.size + 8 * count
        found.append(struct.unpack_from(f"={count}Q", received, MESSAGE.size))
        received = received[size_bytes:]
    return found


@pytest.mark.parametrize("lack", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_machine_that_has_nothing_left_is_asked_again(
    autojump_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, lack: Exception
) -> None:
    """An exception that left this task would end the mount."""
    receiving, device = os.pipe()
    received = b""
    lacks = [lack]
    run_sync = trio.to_thread.run_sync

    async def lacking_once(*args: Any, **options: Any) -> Any:
        if lacks:
            raise lacks.pop()
        return await run_sync(*args, **options)

    def unneeded() -> Sequence[int]:
        nonlocal received
        if not select.select([receiving], [], [], 0)[0]:
            return [7]
        received = os.read(receiving, 1 << 16)
        os.close(receiving)
        return [8]

    monkeypatch.setattr(trio.to_thread, "run_sync", lacking_once)
    autojump_run(prune, device, unneeded)
    os.close(device)
    assert messages(received) == [(7,)]


def test_many_inodes_take_several_messages(autojump_run: Callable[..., Any]) -> None:
    """Nothing is said where there is nothing to say, and a kernel that refuses is not asked again."""
    receiving, device = os.pipe()
    received = b""
    asked: list[Sequence[int]] = [[], range(1, 2 * MOST_INODES + 4), [7]]

    def unneeded() -> Sequence[int]:
        nonlocal received
        if asked:
            return asked.pop(0)
        assert not received, "asked again after it was refused"
        received = os.read(receiving, 1 << 16)
        os.close(receiving)
        return [8]

    autojump_run(prune, device, unneeded)
    os.close(device)
    first, second, third, last = messages(received)
    assert (len(first), len(second)) == (MOST_INODES, MOST_INODES)
    assert first + second + third == tuple(range(1, 2 * MOST_INODES + 4))
    assert last == (7,)
