"""Every call against its deadline: who waits for what, for how long, and what took longest.

A call that does not end is found by a watch that goes round once a second, as nobody else could tell.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

DEADLINES_S: Final = {
    "read": 60.0,
    "open": 60.0,
    "look": 30.0,
    "change": 30.0,
    "mount": 5.0,
    "unmount": 10.0,
    "interrupt": 1.0,
}
"""What the project promises for each kind of call, in seconds. Opening an image may be two calls of the service."""

BUSY_S: Final = 20.0
"""How much later is still in time: on a busy machine processes start late, and failed readahead is repeated."""


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


def _ignore(_: Late) -> None:
    """Nobody wants to hear of late calls yet."""


class CallClock:
    """Times calls."""

    def __init__(self) -> None:
        self._late: Callable[[Late], None] = _ignore
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._longest: dict[str, tuple[float, str]] = {}
        self._ending = threading.Event()
        self._calls = 0

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
        ends_s = began_s + DEADLINES_S[kind] + BUSY_S + extra_s
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
                if took_s > self._longest.get(kind, (0.0, ""))[0]:
                    self._longest[kind] = (took_s, what)
            if waited is not None and now_s > ends_s:
                self._late(Late(kind, what, took_s, ended=True))

    @property
    def longest(self) -> dict[str, tuple[float, str]]:
        """The longest call of each kind, in seconds, and which it was."""
        with self._lock:
            return dict(self._longest)

    @property
    def calls(self) -> int:
        """How many calls were timed."""
        with self._lock:
            return self._calls

    def _watch(self) -> None:
        while not self._ending.wait(1.0):
            now_s = time.monotonic()
            with self._lock:
                overdue = {number: call for number, call in self._waiting.items() if now_s > call.ends_s}
                for number in overdue:
                    del self._waiting[number]
            for call in overdue.values():
                self._late(Late(call.kind, call.what, now_s - call.began_s, ended=False))
