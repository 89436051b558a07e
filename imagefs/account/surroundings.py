"""What the account's caches get from outside, in one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from imagefs.account.protocols import StartTask
from imagefs.account.settings import AccountSettings
from imagefs.account.threads import Threads


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Limits, time, chance, threads and tasks.

    ``clock`` gives seconds on trio's clock, ``wall_ns`` nanoseconds since the epoch. A task started by ``start``
    ends by itself; a bug in it is logged.
    """

    settings: AccountSettings
    clock: Callable[[], float]
    wall_ns: Callable[[], int]
    random: Random
    threads: Threads
    start: StartTask
