"""Every call against its deadline: who waits for what, for how long, and what took longest.

A call of the campaign's own that does not end is found by a watch that goes round once a second, as nobody else could
tell. Of programs it is told by ``stalls``, which looks at them while they run.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

Key = TypeVar("Key")

DEADLINES_S: Final = {
    "read": 60.0,
    "open": 60.0,
    "look": 30.0,
    "change": 30.0,
    "copy": 60.0,
    "mount": 5.0,
    "unmount": 10.0,
    "interrupt": 1.0,
}
"""What the project promises for each kind of call, in seconds. Opening an image may be two calls of the service; a
program that copies opens and reads, too."""

BUSY_S: Final = 20.0
"""How much later is not yet a hang: on a busy machine processes start late, and failed readahead is repeated."""

QUEUED_S: Final = {"change": 60.0, "copy": 60.0}
"""How much later a change is not yet a hang either: the kernel lets one at a time into a directory, and each may take
its whole deadline."""

STALL_S: Final = 60.0
"""No call in a soak goes unanswered for longer, on a busy machine or not; but for what is granted for what is done to
it."""

Longest = tuple[float, str]
"""Seconds, and what took so long."""


def limit_s(kind: str, extra_s: float) -> float:
    """After how long a call of *kind* is taken for a hang, where *extra_s* is granted for what is done to it."""
    return DEADLINES_S[kind] + BUSY_S + QUEUED_S.get(kind, 0.0) + extra_s


@dataclass(frozen=True, slots=True)
class Late:
    """A call that took longer than it may, or still goes on."""

    kind: str
    what: str
    seconds: float
    ended: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    kind: str
    what: str
    began_s: float
    ends_s: float


def _keep_longest(kept: dict[Key, Longest], key: Key, seconds: float, what: str) -> None:
    if key not in kept or seconds > kept[key][0]:
        kept[key] = (seconds, what)


def _ignore(_: Late) -> None:
    """Nobody wants to hear of late calls yet."""


class CallClock:
    """Times calls."""

    def __init__(self) -> None:
        self._late: Callable[[Late], None] = _ignore
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._longest: dict[str, Longest] = {}
        self._longest_programs: dict[str, Longest] = {}
        self._stalls: dict[float, Longest] = {}
        self._ending = threading.Event()
        self._calls = 0
        self._programs = 0

    def start(self, late: Callable[[Late], None]) -> None:
        """Begin to look. *late* is called, on any thread, once for each call that is over its deadline."""
        self._late = late
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def stop(self) -> None:
        """Look no longer."""
        self._ending.set()

    @contextmanager
    def call(self, kind: str, what: str, extra_s: float = 0.0) -> Iterator[None]:
        """Time the block as a call of *kind*; *what* says which. *extra_s* is granted for what is done to it."""
        number, began_s = next(self._numbers), time.monotonic()
        ends_s = began_s + limit_s(kind, extra_s)
        with self._lock:
            self._waiting[number] = _Waiting(kind, what, began_s, ends_s)
            self._calls += 1
        try:
            yield
        finally:
            now_s = time.monotonic()
            took_s = now_s - began_s
            with self._lock:
                waited = self._waiting.pop(number, None)
                self._note(kind, what, took_s, extra_s)
            if waited is not None and now_s > ends_s:
                self._late(Late(kind, what, took_s, ended=True))

    def program(self, kind: str, what: str, took_s: float, stall: Longest, extra_s: float = 0.0) -> None:
        """Note a program of *kind* that has ended: what it took in all, and its longest stall, which is a call."""
        with self._lock:
            self._programs += 1
            _keep_longest(self._longest_programs, kind, took_s, what)
            self._note(kind, stall[1], stall[0], extra_s)

    def tell(self, late: Late) -> None:
        """A program is over a deadline."""
        self._late(late)

    @property
    def longest(self) -> dict[str, Longest]:
        """The longest call of each kind, of the campaign's own or of a program."""
        with self._lock:
            return dict(self._longest)

    @property
    def longest_programs(self) -> dict[str, Longest]:
        """The program of each kind that took longest in all."""
        with self._lock:
            return dict(self._longest_programs)

    @property
    def stalls(self) -> dict[float, Longest]:
        """For each time that was granted for what is done to a call: the longest that one such call took.

        These are all calls of the campaign's own, from beginning to end, and of each program the longest stall, as the
        module ``stalls`` takes it. Nothing is taken off: not what was granted, and not ``BUSY_S``.
        """
        with self._lock:
            return dict(self._stalls)

    @property
    def calls(self) -> int:
        """How many calls of the campaign's own were timed."""
        with self._lock:
            return self._calls

    @property
    def programs(self) -> int:
        """How many programs were timed."""
        with self._lock:
            return self._programs

    def _note(self, kind: str, what: str, took_s: float, extra_s: float) -> None:
        _keep_longest(self._longest, kind, took_s, what)
        _keep_longest(self._stalls, extra_s, took_s, what)

    def _watch(self) -> None:
        while not self._ending.wait(1.0):
            now_s = time.monotonic()
            with self._lock:
                overdue = {number: call for number, call in self._waiting.items() if now_s > call.ends_s}
                for number in overdue:
                    del self._waiting[number]
            for call in overdue.values():
                self._late(Late(call.kind, call.what, now_s - call.began_s, ended=False))
