"""Checks of the place where images are cached."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imagefs.cli.doctor.findings import Finding, failure, ok, warning
from imagefs.fuse.mounts import mounts
from imagefs.store.data_file import punches_holes

TRIED_BYTES: Final = 1 << 30
"""The length of an empty sparse file that is made to see whether it takes space."""

SPARSE_BLOCKS: Final = 2048
"""How many blocks of 512 bytes such a file may take."""

VOLATILE: Final = ("tmpfs", "ramfs")
REMOTE: Final = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs")


def check_cache(folder: Path, min_free_bytes: int) -> Iterator[Finding]:
    """Whether *folder*, or the first of its parents that is there, does what a cache needs. Leaves nothing there."""
    present = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110  # never raises
    try:
        with tempfile.TemporaryFile(dir=present) as tried:
            yield from _trials(tried.fileno())
        status = os.statvfs(present)
    except OSError as error:
        yield failure(
            "cache",
            f"Nothing can be written in {present}, for {folder}: {error.strerror}.",
            "Choose another --cache-dir",
        )
        return
    yield _place(folder, present)
    free_bytes = status.f_bavail * status.f_frsize
    if free_bytes <= min_free_bytes:
        yield warning(
            "cache space",
            f"{_gib(free_bytes)} free: nothing new is cached below {_gib(min_free_bytes)}.",
            "Make room on that disk, or choose another --cache-dir",
        )
    else:
        yield ok("cache space", f"{_gib(free_bytes)} free")


def _trials(descriptor: int) -> Iterator[Finding]:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        yield failure(
            "cache locks", f"Files cannot be locked: {error.strerror}.", "Choose a --cache-dir on a local disk"
        )  # fmt: skip
    else:
        yield ok("cache locks", "Files can be locked.")
    os.ftruncate(descriptor, TRIED_BYTES)
    if os.fstat(descriptor).st_blocks > SPARSE_BLOCKS:
        yield warning(
            "cache holes",
            "Holes take space: each image that is looked at takes its whole size.",
            "Choose a --cache-dir on ext4, xfs, btrfs or the like",
        )
    elif not punches_holes(descriptor):
        yield warning(
            "cache holes",
            "Parts of a file cannot be freed: only whole images are evicted.",
            "Choose a --cache-dir on ext4, xfs, btrfs or the like",
        )
    else:
        yield ok("cache holes", "Holes take no space, and can be made.")


def _place(folder: Path, present: Path) -> Finding:
    device = present.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    kind = next((mount.filesystem_type for mount in mounts() if mount.device == wanted), "of an unknown kind")
    if kind in VOLATILE:
        return warning(
            "cache disk", f"{folder} is on {kind}: gone with the next boot.", "Choose a --cache-dir on a disk"
        )
    if kind in REMOTE:
        return warning(
            "cache disk",
            f"{folder} is on {kind}: everything travels twice.",
            "Choose a --cache-dir on a local disk",
        )
    return ok("cache disk", f"{folder} is on {kind}.")


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.1f} GiB"
