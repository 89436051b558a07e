"""Requests being answered: what an interrupt ends, and the copies that pyfuse3 does not hand on. On trio's thread.

The C addition gives each request a number. While one is being answered, its number leads to the cancel scope of what is
awaited for it, which an interrupt cancels. An interrupt of a request that was answered finds nothing, since no number
is used twice; none can come before its request has begun, since pyfuse3 begins each in the step that receives it.
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyfuse3
import trio

from imagefs.errors import Interrupted
from imagefs.fuse.callers import Caller
from imagefs.fuse.interpose import OnCopy, OnInterrupt

logger = logging.getLogger(__name__)

CopyHandler = Callable[[int, int, int, int, int, int, int, int, Caller | None], Awaitable[int]]
"""Inode, offset and handle of the source, the same of the target, length and flags, as copy_file_range(2) has them, and
who asks; to the number of bytes copied. Raises FUSEError."""

CALLERS_CHECK_S: Final = 0.5
"""How often to look after the programs that wait: whether those that read are still there, and whether those that were
interrupted without a signal have got one by now."""


class Addition(Protocol):
    """What :class:`imagefs.fuse.interpose.Interposer` does here."""

    current_request: int

    @property
    def current_thread(self) -> int:
        """The thread that made the current request."""

    @property
    def current_owner(self) -> int:
        """The current request's lock owner."""

    def register(self, on_interrupt: OnInterrupt, on_copy: OnCopy) -> None:
        """Have these called."""

    def reply_copied(self, address: int, count: int) -> None:
        """Answer a copy."""

    def reply_error(self, address: int, number: int) -> None:
        """Answer a copy with an errno."""


@dataclass(eq=False, slots=True)
class _Work:
    """What is awaited for one request. With ``reading``, it ends with its caller.

    ``woken``: the kernel interrupted it, though there was no signal.
    """

    caller: Caller | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    interrupted: bool = False
    reading: bool = False
    woken: bool = False

    def interrupt(self) -> None:
        self.interrupted = True
        self.scope.cancel()

    @property
    def is_over(self) -> bool:
        """Whether its caller has a signal that the kernel will not report any more, or is gone."""
        if self.caller is None:
            return False
        return (self.woken and self.caller.has_signal) or (self.reading and self.caller.is_gone)


@dataclass(frozen=True, slots=True)
class _Copies:
    handler: CopyHandler
    nursery: trio.Nursery


class Requests:
    """The requests of one session. Without *addition*, nothing is ever interrupted, and no copy comes."""

    def __init__(self, addition: Addition | None = None) -> None:
        self._addition = addition
        self._under_way: dict[int, _Work] = {}
        self._copies: _Copies | None = None
        if addition is not None:
            addition.register(self._interrupt, self._copy)

    @property
    def has_addition(self) -> bool:
        """Whether the C addition takes part."""
        return self._addition is not None

    def caller(self) -> Caller | None:
        """Who makes the current request, for the first step of its coroutine; None without the addition."""
        if self._addition is None:
            return None
        return Caller(self._addition.current_thread, self._addition.current_owner)

    @contextmanager
    def interruptible(self, timeout_s: float = math.inf, *, reading: bool = False) -> Iterator[None]:
        """Around what is awaited for the current request; to be entered in the first step of its coroutine.

        With *reading*, the end of the caller is an interrupt, too: see :meth:`look_after_callers`.

        Raises Interrupted or trio.TooSlowError in place of what was awaited.
        """
        number = self._take_current()
        work = self._under_way.get(number) or _Work(self.caller())
        work.reading = reading
        work.scope.deadline = trio.current_time() + timeout_s
        if number:
            self._under_way[number] = work
        try:
            with work.scope:
                yield
        finally:
            self._under_way.pop(number, None)
        if work.scope.cancelled_caught:
            raise Interrupted("Interrupted by a signal.") if work.interrupted else trio.TooSlowError

    def _take_current(self) -> int:
        """The current request's number; 0 where it is not known."""
        if self._addition is None:
            return 0
        number = self._addition.current_request
        self._addition.current_request = 0
        return number

    def _interrupt(self, number: int) -> None:
        """The kernel interrupted a request. Called inside libfuse.

        That need not be a signal: io_uring wakes a thread in this way to have it finish something (task_work_add,
        TWA_SIGNAL), and a program that gets EINTR then fails. The kernel interrupts only once, so a signal that comes
        later is looked for.
        """
        work = self._under_way.get(number)
        if work is None:
            return
        if work.caller is None or work.caller.has_signal:
            work.interrupt()
        else:
            work.woken = True

    async def look_after_callers(self) -> None:
        """Until cancelled, interrupt what the kernel does not: reads of programs that were killed, and late signals.

        The kernel goes on with such a read to fill its pages for whoever comes next. Another program that waits for
        one of these pages reads again when this read has failed.
        """
        while True:
            await trio.sleep(CALLERS_CHECK_S)
            for work in tuple(self._under_way.values()):
                if work.is_over:
                    work.interrupt()

    @contextmanager
    def copying(self, handler: CopyHandler, nursery: trio.Nursery) -> Iterator[None]:
        """Copies are answered by *handler*, each in a task of *nursery*; outside of this, they are refused."""
        self._copies = _Copies(handler, nursery)
        try:
            yield
        finally:
            self._copies = None

    def _copy(self, number: int, address: int, *asked: int) -> None:
        """The kernel asks for a copy. Called inside libfuse."""
        assert self._addition is not None
        if self._copies is None:
            self._addition.reply_error(address, errno.EOPNOTSUPP)
            return
        self._under_way[number] = _Work(self.caller())  # an interrupt may come before the task begins
        self._copies.nursery.start_soon(
            self._answer_copy, self._copies.handler, number, address, (*asked, self.caller())
        )

    async def _answer_copy(
        self, handler: CopyHandler, number: int, address: int, asked: tuple[Any, ...]
    ) -> None:
        """Reply once, whatever happens: the request's memory is gone after a reply, and stays without one."""
        assert self._addition is not None
        failure = errno.EINTR  # where the mount ends first
        copied = None
        try:
            self._addition.current_request = number  # as for a coroutine that pyfuse3 starts
            copied = await handler(*asked)
        except pyfuse3.FUSEError as error:
            failure = error.errno
        except Exception:
            failure = errno.EIO
            logger.exception("A bug in a copy.")
        finally:
            self._under_way.pop(number, None)
            if copied is None:
                self._addition.reply_error(address, failure)
            else:
                self._addition.reply_copied(address, copied)
