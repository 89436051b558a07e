"""Rounds in which the cache is damaged between two mounts, and its disk is full or read-only."""

from __future__ import annotations

import contextlib
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from campaign.daemon import Daemon, MountFailed
from campaign.injection import Injection, injected
from campaign.scene import ALL_SHAPES, Scene, readings
from campaign.subjects import Subject, Subjects

FLIPPED: Final = "cache: flipped bit"
FLIPPED_INDEX: Final = "cache: flipped bit of the index"
CUT: Final = "cache: file cut"
REMOVED: Final = "cache: file removed"
INDEX_REMOVED: Final = "cache: index removed"
NO_HOLES: Final = Injection("fallocate", "EOPNOTSUPP", every=1)
"""Space that is given back within a file, as that of a damaged block."""

DAMAGE_KINDS: Final = (FLIPPED, FLIPPED_INDEX, CUT, REMOVED, INDEX_REMOVED, NO_HOLES.kind)

FULL: Final = "disk: full"
READ_ONLY: Final = "disk: read-only"
DISK_KINDS: Final = (FULL, READ_ONLY)


def images(subjects: Subjects, rng: random.Random) -> list[Subject]:
    """A few to read."""
    return subjects.make_some(rng, 5, 10)


def run_damaged(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """Bits are turned, files cut and removed while nothing is mounted; nothing of that is ever served."""
    scene.read_together(readings(rng, images, ("sequential",)))
    scene.daemon.unmount()
    files = sorted(path for path in (scene.daemon.cache_dir / "content").rglob("*") if path.is_file())
    _flip(scene, rng, FLIPPED, files, rng.randint(5, 15))
    if rng.random() < 0.4:
        _flip(scene, rng, FLIPPED_INDEX, [scene.daemon.cache_dir / "index"], rng.randint(1, 3))
    if files and rng.random() < 0.4:
        victim = rng.choice(files)
        with victim.open("r+b") as file:
            file.truncate(rng.randrange(victim.stat().st_size + 1))
        scene.tally.strike(CUT)
    if files and rng.random() < 0.4:
        rng.choice(files).unlink()
        scene.tally.strike(REMOVED)
    if rng.random() < 0.15:
        for path in scene.daemon.cache_dir.glob("index*"):
            path.unlink()
        scene.tally.strike(INDEX_REMOVED)
    scene.mount()
    with injected(scene.daemon.pid, NO_HOLES, scene.folder) as counted:
        scene.read_together(readings(rng, images, ("random",)))
    scene.tally.strike(NO_HOLES.kind, counted.times)
    scene.read_together(
        readings(rng, images, (rng.choice(("sequential", "shuffled", "direct", "sendfile")),))
    )
    scene.must_read(images, "damage is mended")


def _flip(scene: Scene, rng: random.Random, kind: str, files: Sequence[Path], count: int) -> None:
    """Turn *count* bits of *files* that hold bytes and no holes."""
    candidates = [
        path for path in files if path.exists() and path.stat().st_blocks > 0 and path.stat().st_size > 0
    ]
    for _ in range(count if candidates else 0):
        path = rng.choice(candidates)
        offset = rng.randrange(path.stat().st_size)
        with path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ (1 << rng.randrange(8))]))
        scene.tally.strike(kind)


def run_disk(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """A cache on a disk of a few MiB: while it is full, no reader notices; where it is read-only, the mount says so."""
    with _tmpfs(scene.folder / "disk", rng.choice((1, 3, 6))) as disk:
        daemon = scene.another_daemon("small", cache_dir=disk / "cache")
        try:
            daemon.mount()
            if rng.random() < 0.5:
                _fill(disk / "filler")
            _read_each(scene, rng, daemon, images)
            scene.tally.strike(FULL)
            daemon.unmount()
            (disk / "filler").unlink(missing_ok=True)
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            _must_say(scene, daemon)
            scene.tally.strike(READ_ONLY)
        finally:
            daemon.clear_away()


def _must_say(scene: Scene, daemon: Daemon) -> None:
    """A mount whose cache cannot be used says so at its start, in a line."""
    try:
        daemon.mount()
    except MountFailed as error:
        if "cache" in str(error).lower():
            return
        scene.tally.broken("a mount with an unusable cache says so", f"it said {error}")
    else:
        if "cache" not in daemon.log_file.read_text():
            scene.tally.broken("a mount with an unusable cache says so", "it mounted without a word")


def _fill(file: Path) -> None:
    """Write to *file* until its disk is full."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1 << 16))


def _read_each(scene: Scene, rng: random.Random, daemon: Daemon, images: Sequence[Subject]) -> None:
    """Read *images*, which must succeed: the cache alone is no reason for an error."""
    for subject in images:
        shape = rng.choice(ALL_SHAPES)
        witness = scene.read(subject, shape, rng, daemon=daemon)
        if witness.error is not None:
            scene.tally.broken("never EIO for the cache alone", f"{shape} of {subject}: {witness.error}")


@contextmanager
def _tmpfs(folder: Path, megabytes: int) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
