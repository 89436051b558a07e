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


def _random_reads_per_s(bench: Bench, path: Path, seed: int) -> float:
    pages = range(bench.scale.whole_bytes // PAGE_BYTES)
    offsets = [page * PAGE_BYTES for page in random.Random(seed).sample(pages, bench.scale.random_reads)]
    with path.open("rb", buffering=0) as file:
        began_s = time.perf_counter()
        for offset in offsets:
            os.pread(file.fileno(), PAGE_BYTES, offset)
        return len(offsets) / (time.perf_counter() - began_s)


def _random_round(bench: Bench) -> Mapping[str, float]:
    """Both programs read at the same offsets, the same in each round."""
    seed = 1
    values = {}
    with bench.server.behaving(latency_s=LATENCY_S, range=True):
        make_cold([bench.server.contents[WHOLE]])
        with mounts.imagefs(bench.server, bench.scratch) as mount:
            values["imagefs"] = _random_reads_per_s(bench, mount.images / WHOLE, seed)
        make_cold([bench.server.contents[WHOLE]])
        with mounts.rclone(bench.server, bench.scratch, "full") as mount:
            values["rclone full"] = _random_reads_per_s(bench, mount.images / WHOLE, seed)
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
