"""How long commands take to begin: a mount, until its tree can be used, and what only prints."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks import mounts
from benchmarks.changing import LATENCY_S, bare_client, milliseconds
from benchmarks.experiment import NO_CROWDS, Bench, Experiment, Scale
from benchmarks.machine import IMAGEFS, timed
from benchmarks.results import Goal
from benchmarks.server import Wanted


def _wants_nothing(_: Scale) -> Wanted:
    return Wanted({}, NO_CROWDS)


def _start_round(bench: Bench) -> Mapping[str, float]:
    """A mount with a fresh cache waits for one call of the service; the bare one has a new connection, too."""
    mount_ms, list_ms, help_ms = [], [], []
    with bench.server.behaving(latency_s=LATENCY_S):
        for _ in range(bench.scale.heads):
            mount_ms.append(_mount_ms(bench))
            with bare_client(bench.server) as client:
                list_ms.append(milliseconds(client.list_images))
            help_ms.append(timed(IMAGEFS, "--help").wall_s * 1000)
    return {
        "mount": statistics.median(mount_ms),
        "image/list": statistics.median(list_ms),
        "help": statistics.median(help_ms),
    }


def _mount_ms(bench: Bench) -> float:
    with mounts.directory(bench.scratch, "imagefs") as name:
        own = Path(name)
        root = own / "mount"
        root.mkdir()
        taken = timed(*mounts.mount_command(bench.server, root, own))
        timed(IMAGEFS, "umount", root)
    return taken.wall_s * 1000


START: Final = Experiment(
    "start",
    _wants_nothing,
    _start_round,
    (
        Goal(
            "imagefs mount until it is ready, 50 ms latency, against image/list",
            "mount",
            "ms",
            "image/list",
            compare=operator.sub,
            at_most=800,
        ),
        Goal("imagefs --help", "help", "ms", at_most=300),
    ),
)
