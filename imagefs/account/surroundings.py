"""What the account's caches get from outside, in one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from imagefs.account.protocols import RunSync, StartTask
from imagefs.account.settings import AccountSettings


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Limits, time, chance, threads and tasks.

    ``clock`` gives seconds on trio's clock, ``wall_ns`` nanoseconds since the epoch.
    """

    settings: AccountSettings
    clock: Callable[[], float]
    wall_ns: Callable[[], int]
    random: Random
    run_sync: RunSync
    start: StartTask
