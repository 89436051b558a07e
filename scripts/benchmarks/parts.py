"""Parts of an image that nobody has read yet: its head, and 4 KiB here and there."""

from __future__ import annotations

import operator
import os
import random
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks import mounts
from benchmarks.cpu_time import watched
from benchmarks.experiment import Bench, Experiment
from benchmarks.machine import MIB, make_cold, timed
from benchmarks.reading import WHOLE, wants_whole
from benchmarks.results import Goal

PAGE_BYTES: Final = 4096
LATENCY_S: Final = 0.002


def _head_round(bench: Bench) -> Mapping[str, float]:
    """Several fresh mounts a round: one such read is too short to be measured once."""
    make_cold([bench.server.contents[WHOLE]])
    url = bench.server.plain_url + WHOLE
    curl = ("curl", "--silent", "--show-error", "--fail", "-r", f"0-{PAGE_BYTES - 1}", url)
    timed(*curl)  # brings what curl opens besides its libraries into the page cache again
    ours_ms, curl_ms, fetched_mib = [], [], []
    for _ in range(bench.scale.heads):
        bench.server.clear_ledger()
        with mounts.imagefs(bench.server, bench.scratch) as mount:
            ours_ms.append(timed("head", "-c", str(PAGE_BYTES), mount.images / WHOLE).wall_s * 1000)
            fetched_mib.append(bench.server.ledger().bytes_retrieved / MIB)
        curl_ms.append(timed(*curl).wall_s * 1000)
    return {
        "imagefs": statistics.median(ours_ms),
        "curl": statistics.median(curl_ms),
        "fetched": max(fetched_mib),
    }


HEAD: Final = Experiment(
    "head",
    wants_whole,
    _head_round,
    (
        Goal(
            "head -c 4096, cold, against curl -r 0-4095",
            "imagefs",
            "ms",
            "curl",
            compare=operator.sub,
            at_most=15,
        ),
        Goal("head -c 4096, cold: bytes fetched", "fetched", "MiB", at_most=2, budget=True),
    ),
)


def _random_reads(bench: Bench, path: Path) -> list[float]:
    """How long each read took, in seconds. The offsets are the same for all programs and in each round."""
    pages = range(bench.scale.whole_bytes // PAGE_BYTES)
    took_s = []
    with path.open("rb", buffering=0) as file:
        for page in random.Random(1).sample(pages, bench.scale.random_reads):
            began_s = time.perf_counter()
            os.pread(file.fileno(), PAGE_BYTES, page * PAGE_BYTES)
            took_s.append(time.perf_counter() - began_s)
    return took_s


def _random_reads_per_s(bench: Bench, program: str, mount: mounts.Mount) -> float:
    path = mount.images / WHOLE
    if bench.profiles is None:
        took_s = _random_reads(bench, path)
    else:
        with watched(f"{program}, random reads", {program: mount.pid, "server": bench.server.pid}) as profile:
            took_s = _random_reads(bench, path)
        waits_ms = [read_s * 1000 for read_s in took_s if read_s > LATENCY_S]
        profile.remarks.append(
            f"{len(waits_ms)} of {len(took_s)} reads took longer than the latency, "
            f"{statistics.median(waits_ms):.1f} ms at the median, {sum(waits_ms) / 1000:.2f} s together"
        )
        bench.profiles.append(profile)
    return len(took_s) / sum(took_s)


def _random_round(bench: Bench) -> Mapping[str, float]:
    values = {}
    with bench.server.behaving(latency_s=LATENCY_S, range=True):
        make_cold([bench.server.contents[WHOLE]])
        with mounts.imagefs(bench.server, bench.scratch) as mount:
            values["imagefs"] = _random_reads_per_s(bench, "imagefs", mount)
        make_cold([bench.server.contents[WHOLE]])
        with mounts.rclone(bench.server, bench.scratch, "full") as mount:
            values["rclone full"] = _random_reads_per_s(bench, "rclone full", mount)
    return values


RANDOM: Final = Experiment(
    "random",
    wants_whole,
    _random_round,
    (
        Goal(
            "random 4 KiB reads, cold, 2 ms latency, against rclone full",
            "imagefs",
            "reads/s",
            "rclone full",
            at_least=1.5,
        ),
    ),
)
