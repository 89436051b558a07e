"""``ls`` and ``ls -l`` of regions with many images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks import mounts
from benchmarks.experiment import Bench, Experiment, Scale
from benchmarks.machine import make_cold, timed
from benchmarks.results import Goal
from benchmarks.server import Ledger, Wanted

LISTED_REGION: Final = "montreal"
LOOKED_AT_REGION: Final = "roubaix"
LATENCY_S: Final = 0.050


def _calls(ledger: Ledger) -> int:
    return sum(ledger.calls.values())


def _wants_listed(scale: Scale) -> Wanted:
    return Wanted({}, {LISTED_REGION: scale.listed})


def _ls_round(bench: Bench) -> Mapping[str, float]:
    bench.server.clear_ledger()
    with mounts.imagefs(bench.server, bench.scratch) as mount:
        timed("ls", mount.root / LISTED_REGION)
        return {"calls": _calls(bench.server.ledger())}


LS: Final = Experiment(
    "ls",
    _wants_listed,
    _ls_round,
    (Goal("ls of 5,000 images, with the mount", "calls", "calls", at_most=1, budget=True),),
)


def _wants_looked_at(scale: Scale) -> Wanted:
    return Wanted({}, {LOOKED_AT_REGION: scale.looked_at})


def _ls_l_round(bench: Bench) -> Mapping[str, float]:
    make_cold()
    with (
        bench.server.behaving(latency_s=LATENCY_S),
        mounts.directory(bench.scratch, "cache") as cache_dir,
    ):
        with mounts.imagefs(bench.server, bench.scratch, Path(cache_dir)) as mount:
            first = timed("ls", "-l", mount.root / LOOKED_AT_REGION)
        bench.server.clear_ledger()
        with mounts.imagefs(bench.server, bench.scratch, Path(cache_dir)) as mount:
            timed("ls", "-l", mount.root / LOOKED_AT_REGION)
            return {"first": first.wall_s, "calls again": _calls(bench.server.ledger())}


LS_L: Final = Experiment(
    "ls-l",
    _wants_looked_at,
    _ls_l_round,
    (
        Goal("first ls -l of 1,000 images, 50 ms latency", "first", "s", at_most=4.5),
        Goal("ls -l after a remount, with the mount", "calls again", "calls", at_most=1, budget=True),
    ),
)
