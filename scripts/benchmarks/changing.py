"""Changes to the account through the mount, against the bare calls of the service that carry them out."""

from __future__ import annotations

import operator
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks import mounts
from benchmarks.experiment import NO_CROWDS, Bench, Experiment, Scale
from benchmarks.machine import MIB, make_cold, timed
from benchmarks.results import Goal
from benchmarks.server import REGION, Server, Wanted
from imagefs.api import ServiceClient
from imagefs.cli import credentials

COPIED: Final = "copied.img"
CHANGED: Final = "changed.img"
TARGET_REGION: Final = "roubaix"
LATENCY_S: Final = 0.050


@contextmanager
def bare_client(server: Server) -> Iterator[ServiceClient]:
    """The service without a mount."""
    client = ServiceClient(credentials.from_file(server.credentials_file), server.api_url)
    try:
        yield client
    finally:
        client.close()


def milliseconds(change: Callable[..., object], *arguments: object) -> float:
    """What calling *change* takes on the clock."""
    began_s = time.perf_counter()
    change(*arguments)
    return (time.perf_counter() - began_s) * 1000


def _image_id(path: Path) -> str:
    return os.getxattr(path, "user.imagefs.id").decode()


# Copies between regions


def _wants_copied(scale: Scale) -> Wanted:
    return Wanted({COPIED: scale.copied_bytes}, NO_CROWDS)


def _copy_round(bench: Bench) -> Mapping[str, float]:
    """Several copies a round; each replica is deleted before the next is made.

    A copy lists the account first, so that a lost answer to replicate can be told from a replica of somebody else;
    the bare calls are these two.
    """
    ours_ms, bare_ms, fetched_mib = [], [], []
    with (
        bench.server.behaving(latency_s=LATENCY_S, saving_s=0.0),
        mounts.imagefs(bench.server, bench.scratch) as mount,
        bare_client(bench.server) as client,
    ):
        source, replica = mount.images / COPIED, mount.root / TARGET_REGION / COPIED
        image_id = _image_id(source)
        for _ in range(bench.scale.heads):
            bench.server.clear_ledger()
            ours_ms.append(timed("cp", source, replica).wall_s * 1000)
            fetched_mib.append(bench.server.ledger().bytes_retrieved / MIB)
            timed("sync", replica)
            replica.unlink()
            began_s = time.perf_counter()
            client.list_images()
            bare_id = client.replicate_image(image_id, TARGET_REGION)
            bare_ms.append((time.perf_counter() - began_s) * 1000)
            client.delete_image(bare_id)
    return {
        "cp": statistics.median(ours_ms),
        "image/list and image/replicate": statistics.median(bare_ms),
        "fetched": max(fetched_mib),
        **_downloads_ms(bench),
    }


def _downloads_ms(bench: Bench) -> Mapping[str, float]:
    """What a copy begins with where the content has to come here first. It goes nowhere then: no disk is measured."""
    make_cold([bench.server.contents[COPIED]])
    with bench.server.behaving(latency_s=LATENCY_S):
        with mounts.rclone(bench.server, bench.scratch, "off") as mount:
            rclone_s = timed("cp", mount.images / COPIED, "/dev/null").wall_s
        url = bench.server.plain_url + COPIED
        curl_s = timed("curl", "--silent", "--show-error", "--fail", "-o", "/dev/null", url).wall_s
    return {"cp out of rclone mount": rclone_s * 1000, "curl": curl_s * 1000}


COPY: Final = Experiment(
    "copy",
    _wants_copied,
    _copy_round,
    (
        Goal(
            "cp of 3 GiB between regions, 50 ms latency, against its two bare calls",
            "cp",
            "ms",
            "image/list and image/replicate",
            compare=operator.sub,
            at_most=50,
        ),
        Goal("cp of 3 GiB between regions: bytes fetched", "fetched", "MiB", at_most=0, budget=True),
        Goal(
            "the same, against cp out of rclone mount, to nowhere",
            "cp",
            "ms",
            "cp out of rclone mount",
            at_most=1,
        ),
        Goal("the same, against curl -o /dev/null", "cp", "ms", "curl", at_most=1),
    ),
)


# Renaming and deleting


def _wants_changed(_: Scale) -> Wanted:
    return Wanted({CHANGED: MIB}, NO_CROWDS)


def _rename_round(bench: Bench) -> Mapping[str, float]:
    """Both give one image the same names in turn."""
    ours_ms, bare_ms = [], []
    with mounts.imagefs(bench.server, bench.scratch) as mount, bare_client(bench.server) as client:
        old, new = mount.images / CHANGED, mount.images / f"renamed-{CHANGED}"
        image_id = _image_id(old)
        for _ in range(bench.scale.changes):
            ours_ms.append(milliseconds(old.rename, new))
            bare_ms.append(milliseconds(client.rename_image, image_id, new.name))
            old, new = new, old
        client.rename_image(image_id, CHANGED)
    return {"rename": statistics.median(ours_ms), "image/rename": statistics.median(bare_ms)}


RENAME: Final = Experiment(
    "rename",
    _wants_changed,
    _rename_round,
    (
        Goal(
            "rename, against image/rename",
            "rename",
            "ms",
            "image/rename",
            compare=operator.sub,
            at_most=10,
        ),
    ),
)


def _delete_round(bench: Bench) -> Mapping[str, float]:
    """Replicas that were made for it; every other one is deleted through the mount."""
    ours_ms, bare_ms = [], []
    with bench.server.behaving(saving_s=0.0), bare_client(bench.server) as client:
        [source_id] = [image.image_id for image in client.list_images(REGION).images if image.name == CHANGED]
        replicas = [client.replicate_image(source_id, TARGET_REGION) for _ in range(bench.scale.changes)]
        with mounts.imagefs(bench.server, bench.scratch) as mount:
            for image_id, bare_id in zip(replicas[::2], replicas[1::2], strict=True):
                path = mount.root / TARGET_REGION / f"{Path(CHANGED).stem}~{image_id}.img"
                path.stat()  # as rm does
                ours_ms.append(milliseconds(path.unlink))
                bare_ms.append(milliseconds(client.delete_image, bare_id))
    return {"unlink": statistics.median(ours_ms), "image/delete": statistics.median(bare_ms)}


DELETE: Final = Experiment(
    "delete",
    _wants_changed,
    _delete_round,
    (
        Goal(
            "unlink, against image/delete",
            "unlink",
            "ms",
            "image/delete",
            compare=operator.sub,
            at_most=10,
        ),
    ),
)
