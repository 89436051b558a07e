"""Whole images front to back: cold, from a server that slows each connection down, and from the cache."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from benchmarks import mounts
from benchmarks.cpu_time import watched
from benchmarks.experiment import NO_CROWDS, Bench, Experiment, Scale
from benchmarks.machine import Timing, make_cold, reader_of, timed
from benchmarks.results import Goal
from benchmarks.server import Wanted

WHOLE: Final = "whole.img"
LIMIT_BYTES_PER_S: Final = 40e6


def wants_whole(scale: Scale) -> Wanted:
    """One large image."""
    return Wanted({WHOLE: scale.whole_bytes}, NO_CROWDS)


def _mb_per_s(bench: Bench, timing: Timing) -> float:
    return bench.scale.whole_bytes / 1e6 / timing.wall_s


def _profiled(bench: Bench, what: str, reader: str, pids: Mapping[str, int], *command: str | Path) -> Timing:
    """Run *command*; with a profile of it, as *reader*, and of the processes *pids*, where one is wanted."""
    if bench.profiles is None:
        return timed(*command)
    with watched(what, pids) as profile:
        timing = timed(*command)
    profile.add(reader, timing)
    bench.profiles.append(profile)
    return timing


# Cold


def _through_imagefs(bench: Bench, what: str = "cold") -> float:
    make_cold([bench.server.contents[WHOLE]])
    with mounts.imagefs(bench.server, bench.scratch) as mount:
        pids = {"imagefs": mount.pid, "server": bench.server.pid}
        return _mb_per_s(
            bench, _profiled(bench, f"imagefs, {what}", "dd", pids, *reader_of(mount.images / WHOLE))
        )


def _through_curl(bench: Bench, what: str = "cold") -> float:
    make_cold([bench.server.contents[WHOLE]])
    with mounts.directory(bench.scratch, "curl") as directory:
        command = ("curl", "--silent", "--show-error", "--fail", "-o", Path(directory, WHOLE))
        pids = {"server": bench.server.pid}
        timing = _profiled(bench, f"curl, {what}", "curl", pids, *command, bench.server.plain_url + WHOLE)
        return _mb_per_s(bench, timing)


def _through_rclone(bench: Bench, cache_mode: str) -> float:
    make_cold([bench.server.contents[WHOLE]])
    with mounts.rclone(bench.server, bench.scratch, cache_mode) as mount:
        pids = {"rclone": mount.pid, "server": bench.server.pid}
        what = f"rclone {cache_mode}, cold"
        return _mb_per_s(bench, _profiled(bench, what, "dd", pids, *reader_of(mount.images / WHOLE)))


def _cold_round(bench: Bench) -> Mapping[str, float]:
    return {
        "imagefs": _through_imagefs(bench),
        "curl": _through_curl(bench),
        "rclone full": _through_rclone(bench, "full"),
        "rclone off": _through_rclone(bench, "off"),
    }


WHOLE_COLD: Final = Experiment(
    "whole",
    wants_whole,
    _cold_round,
    (
        Goal("whole image, cold, against curl -o", "imagefs", "MB/s", "curl", at_least=0.85),
        Goal("whole image, cold, against rclone full", "imagefs", "MB/s", "rclone full", at_least=2.0),
        Goal("whole image, cold, against rclone off", "imagefs", "MB/s", "rclone off", at_least=1.2),
    ),
)


# From a server that slows each connection down


def _limited_round(bench: Bench) -> Mapping[str, float]:
    with bench.server.behaving(rate_bytes_per_s=LIMIT_BYTES_PER_S, range=True):
        what = "cold, 40 MB/s a connection"
        return {"imagefs": _through_imagefs(bench, what), "curl": _through_curl(bench, what)}


LIMITED: Final = Experiment(
    "limited",
    wants_whole,
    _limited_round,
    (
        Goal(
            "whole image, cold, 40 MB/s a connection, against curl -o",
            "imagefs",
            "MB/s",
            "curl",
            at_least=3.5,
        ),
    ),
)


# From the cache


def _cached_round(bench: Bench) -> Mapping[str, float]:
    whole = bench.server.contents[WHOLE]
    with ExitStack() as stack:
        raw = Path(stack.enter_context(mounts.directory(bench.scratch, "raw")), WHOLE)
        timed("cp", "--reflink=never", whole, raw)
        mount = stack.enter_context(mounts.imagefs(bench.server, bench.scratch))
        image = mount.images / WHOLE
        timed(*reader_of(image))
        values = {}
        for program, path, pids in (("imagefs", image, {"imagefs": mount.pid}), ("raw file", raw, {})):
            make_cold()
            for where in ("from disk", "from memory"):
                what = f"{program}, {where}"
                values[what] = _mb_per_s(bench, _profiled(bench, what, "dd", pids, *reader_of(path)))
        return values


CACHED: Final = Experiment(
    "cached",
    wants_whole,
    _cached_round,
    (
        Goal(
            "second read, page cache dropped, against the raw file",
            "imagefs, from disk",
            "MB/s",
            "raw file, from disk",
            at_least=0.6,
        ),
        Goal(
            "second read, page cache warm, against the raw file",
            "imagefs, from memory",
            "MB/s",
            "raw file, from memory",
            at_least=0.9,
        ),
    ),
)
