"""What an experiment is, and what it gets to work with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.cpu_time import Profile
from benchmarks.machine import MIB
from benchmarks.results import Goal
from benchmarks.server import Server, Wanted

NO_CROWDS: Final[Mapping[str, int]] = {}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured; what it begins with is what the goals are for."""

    whole_bytes: int = 1024 * MIB
    shared_bytes: int = 256 * MIB
    each_of_many_bytes: int = 512 * MIB
    random_reads: int = 500
    heads: int = 5
    listed: int = 5000
    looked_at: int = 1000
    copied_bytes: int = 3 * 1024 * MIB
    changes: int = 20


QUICK: Final = Scale(
    whole_bytes=64 * MIB,
    shared_bytes=32 * MIB,
    each_of_many_bytes=32 * MIB,
    random_reads=50,
    heads=2,
    listed=500,
    looked_at=100,
    copied_bytes=96 * MIB,
    changes=6,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """What a round works with: the server, a directory on the disk to be measured, the scale.

    ``profiles`` takes the profiles of the measurements that have one, or is None where nobody wants them.
    """

    server: Server
    scratch: Path
    scale: Scale
    profiles: list[Profile] | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """One thing to measure.

    ``name`` is for ``--only``. ``wants`` tells what the account must hold. ``round`` measures every program once, in
    turn, and tells its values by series name; ``goals`` says what they are compared with.
    """

    name: str
    wants: Callable[[Scale], Wanted]
    round: Callable[[Bench], Mapping[str, float]]
    goals: tuple[Goal, ...]
