"""Many readers at once: of one image, and of one image each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks import mounts
from benchmarks.experiment import NO_CROWDS, Bench, Experiment, Scale
from benchmarks.machine import BenchError, make_cold, read_by_many
from benchmarks.results import Goal
from benchmarks.server import Wanted

SHARED: Final = "shared.img"
READERS: Final = 64
MANY: Final = tuple(f"one-of-many-{number}.img" for number in range(8))


def _wants_shared(scale: Scale) -> Wanted:
    return Wanted({SHARED: scale.shared_bytes}, NO_CROWDS)


def _readers_round(bench: Bench) -> Mapping[str, float]:
    make_cold([bench.server.contents[SHARED]])
    bench.server.clear_ledger()
    with mounts.imagefs(bench.server, bench.scratch) as mount:
        read_by_many([mount.images / SHARED] * READERS)
        return {"fetched": bench.server.ledger().bytes_retrieved / bench.scale.shared_bytes}


SHARING: Final = Experiment(
    "readers",
    _wants_shared,
    _readers_round,
    (Goal("64 readers of one cold image: fetched", "fetched", "x its size", at_most=1.02, budget=True),),
)


def _wants_many(scale: Scale) -> Wanted:
    return Wanted(dict.fromkeys(MANY, scale.each_of_many_bytes), NO_CROWDS)


def _memory_round(bench: Bench) -> Mapping[str, float]:
    make_cold([bench.server.contents[name] for name in MANY])
    with mounts.imagefs(bench.server, bench.scratch) as mount:
        read_by_many([mount.images / name for name in MANY])
        return {"peak RSS": _peak_rss_bytes(mount.pid) / 1e6}


def _peak_rss_bytes(pid: int) -> int:
    """The most physical memory that the process ever had (VmHWM, proc_pid_status(5))."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    match = re.search(r"^VmHWM:\s*(\d+) kB$", status, re.MULTILINE)
    if match is None:
        raise BenchError("The kernel does not tell the peak of the daemon's memory.")
    return int(match[1]) * 1024


MEMORY: Final = Experiment(
    "memory",
    _wants_many,
    _memory_round,
    (Goal("peak RSS, 8 readers of 8 cold images of 512 MiB", "peak RSS", "MB", at_most=150, budget=True),),
)
