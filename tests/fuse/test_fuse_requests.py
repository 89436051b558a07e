"""Requests being answered: what an interrupt ends and what it leaves alone, and one reply to each copy."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable

import pyfuse3
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from imagefs.errors import Interrupted
from imagefs.fuse.requests import CALLERS_CHECK_S, Requests

COPY = (2, 0, 20, 3, 0, 30, 4096, 0)
"""Inode, offset and handle of the source, the same of the target, length, flags."""


class FakeAddition:
    """The C addition without libfuse: what arrives is told by the test, replies are kept by address."""

    def __init__(self) -> None:
        self.current_request = self.current_thread = self.current_owner = 0
        self.replies: list[tuple[int, str, int]] = []

    def register(self, on_interrupt, on_copy) -> None:
        """Keep what would be called."""
        self.interrupt, self.copy = on_interrupt, on_copy

    def reply_copied(self, address: int, count: int) -> None:
        """Keep a reply."""
        self.replies.append((address, "copied", count))

    def reply_error(self, address: int, number: int) -> None:
        """Keep a reply."""
        self.replies.append((address, "error", number))


@pytest.fixture
def addition() -> FakeAddition:
    """A fake of the C addition."""
    return FakeAddition()


@pytest.fixture
def requests(addition: FakeAddition) -> Requests:
    """Requests that come from the fake."""
    return Requests(addition)


def play(scene: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    """Run *scene* with a nursery, in virtual time."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await scene(nursery)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))


def begin(
    nursery: trio.Nursery,
    addition: FakeAddition,
    requests: Requests,
    number: int,
    ends: dict,
    *,
    reading: bool = False,
) -> None:
    """Let request *number* wait for ever; ``ends`` gets what it ends with."""

    async def operation() -> None:
        addition.current_request = number
        try:
            with requests.interruptible(reading=reading):
                await trio.sleep_forever()
        except Interrupted as error:
            ends[number] = error

    nursery.start_soon(operation)


def test_an_interrupt_ends_its_request_and_no_other(addition, requests):
    """Of two that wait, the one that is interrupted ends."""

    async def scene(nursery):
        ends: dict[int, Exception] = {}
        begin(nursery, addition, requests, 1, ends)
        begin(nursery, addition, requests, 2, ends)
        await wait_all_tasks_blocked()
        addition.interrupt(2)
        await wait_all_tasks_blocked()
        assert list(ends) == [2]

    play(scene)


def test_an_interrupt_of_an_answered_request_does_nothing(addition, requests):
    """Neither to those that wait, nor to those that come later."""

    async def scene(nursery):
        addition.current_request = 1
        with requests.interruptible():
            pass
        addition.interrupt(1)
        ends: dict[int, Exception] = {}
        begin(nursery, addition, requests, 2, ends)
        await wait_all_tasks_blocked()
        addition.interrupt(1)
        await wait_all_tasks_blocked()
        assert not ends

    play(scene)


def test_the_number_of_a_request_is_taken_once(addition, requests):
    """What no request asks for does not take the number of the request before for its own."""

    async def scene(_):
        addition.current_request = 1
        with requests.interruptible():
            pass
        with requests.interruptible():
            addition.interrupt(1)
            addition.interrupt(0)
            await trio.lowlevel.checkpoint()

    play(scene)


def test_a_read_ends_with_its_program(addition, requests):
    """Other reads, and what else the program waits for, go on."""
    with subprocess.Popen(["true"]) as program:
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)  # its parent may still take note of its end

        async def scene(nursery):
            ends: dict[int, Exception] = {}
            for number, thread, reading in (
                (1, program.pid, True),
                (2, os.getpid(), True),
                (3, program.pid, False),
            ):
                addition.current_thread = thread
                begin(nursery, addition, requests, number, ends, reading=reading)
                await wait_all_tasks_blocked()
            nursery.start_soon(requests.look_after_callers)
            await trio.sleep(2 * CALLERS_CHECK_S)
            assert list(ends) == [1]

        play(scene)


def test_who_is_woken_without_a_signal_goes_on_until_one_comes(addition, requests):
    """io_uring wakes threads so, and the kernel does not tell of a signal that comes later."""
    with subprocess.Popen(["sleep", "100"]) as program:
        program.send_signal(signal.SIGSTOP)  # what it gets from now on waits
        os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)

        async def scene(nursery):
            ends: dict[int, Exception] = {}
            addition.current_thread = program.pid
            begin(nursery, addition, requests, 1, ends)
            nursery.start_soon(requests.look_after_callers)
            await wait_all_tasks_blocked()
            addition.interrupt(1)
            await trio.sleep(2 * CALLERS_CHECK_S)
            assert not ends
            program.send_signal(signal.SIGUSR1)
            await trio.sleep(2 * CALLERS_CHECK_S)
            assert list(ends) == [1]

        play(scene)
        program.kill()


def test_nothing_is_kept_of_what_was_answered(addition, requests):
    """A mount answers millions of requests."""

    async def scene(nursery):
        async def handler(*args):
            with requests.interruptible():
                await trio.lowlevel.checkpoint()
                return 4096

        addition.current_request = 1
        with requests.interruptible():
            await trio.lowlevel.checkpoint()
        ends: dict[int, Exception] = {}
        begin(nursery, addition, requests, 2, ends)
        await wait_all_tasks_blocked()
        addition.interrupt(2)
        with requests.copying(handler, nursery):
            addition.copy(3, 0x30, *COPY)
            await wait_all_tasks_blocked()
        assert (list(ends), addition.replies) == ([2], [(0x30, "copied", 4096)])
        assert not requests._under_way

    play(scene)


def test_the_deadline_is_not_an_interrupt(requests):
    """It is for the errno table to say what it means."""

    async def scene(_):
        with pytest.raises(trio.TooSlowError), requests.interruptible(75.0):
            await trio.sleep_forever()
        assert trio.current_time() >= 75.0

    play(scene)


def test_what_was_done_in_spite_of_an_interrupt_is_the_answer(addition, requests):
    """An interrupt that comes too late to end anything is not told."""

    async def scene(_):
        addition.current_request = 1
        with requests.interruptible():
            addition.interrupt(1)

    play(scene)


def test_without_the_addition_nothing_is_interrupted():
    """Deadlines hold all the same."""

    async def scene(_):
        with pytest.raises(trio.TooSlowError), Requests().interruptible(1.0):
            await trio.sleep_forever()

    play(scene)


async def _all(*asked: int) -> int:
    return asked[6]


async def _refused(*asked: int) -> int:
    raise pyfuse3.FUSEError(errno.EDQUOT)


async def _bug(*asked: int) -> int:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("handler", "reply"),
    [
        (_all, ("copied", 4096)),
        (_refused, ("error", errno.EDQUOT)),
        (_bug, ("error", errno.EIO)),
    ],
)
def test_a_copy_is_answered_once(addition, requests, handler, reply):
    """With what its handler came to."""

    async def scene(nursery):
        with requests.copying(handler, nursery):
            addition.copy(1, 0xA, *COPY)
            await wait_all_tasks_blocked()
        assert addition.replies == [(0xA, *reply)]

    play(scene)


def test_copies_are_refused_before_and_after_the_session(addition, requests):
    """The kernel then reads and writes."""

    async def scene(nursery):
        addition.copy(1, 0xA, *COPY)
        with requests.copying(_all, nursery):
            pass
        addition.copy(2, 0xB, *COPY)
        assert addition.replies == [(0xA, "error", errno.EOPNOTSUPP), (0xB, "error", errno.EOPNOTSUPP)]

    play(scene)


@pytest.mark.parametrize("begun", [True, False], ids=["waits", "has not begun"])
def test_an_interrupted_copy_is_answered_once(addition, requests, begun):
    """Its handler finds its own request, even where others came meanwhile, and is interrupted."""

    async def handler(*asked: int) -> int:
        try:
            with requests.interruptible():
                await trio.sleep_forever()
        except Interrupted:
            raise pyfuse3.FUSEError(errno.EINTR) from None

    async def scene(nursery):
        with requests.copying(handler, nursery):
            addition.copy(1, 0xA, *COPY)
            addition.current_request = 2
            if begun:
                await wait_all_tasks_blocked()
            addition.interrupt(2)
            addition.interrupt(1)
            await wait_all_tasks_blocked()
        addition.interrupt(1)
        assert addition.replies == [(0xA, "error", errno.EINTR)]

    play(scene)


def test_a_session_that_ends_answers_its_copies(addition, requests):
    """A copy that waits is answered once when its task is cancelled."""

    async def handler(*asked: int) -> int:
        await trio.sleep_forever()

    async def scene(nursery):
        with requests.copying(handler, nursery):
            addition.copy(1, 0xA, *COPY)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    play(scene)
    assert addition.replies == [(0xA, "error", errno.EINTR)]
