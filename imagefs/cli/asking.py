"""Asking a mount without ever hanging with it: what touches the tree is :mod:`imagefs.probe`, in its own process."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imagefs.core.names import encode
from imagefs.errors import SetupError
from imagefs.fuse.mounts import own_mount_above, own_mounts

STATUS_S: Final = 5.0
"""How long a mount may take to tell how it is doing: it waits for its disk at most, and not for long."""

CHANGE_S: Final = 60.0
"""How long a change may take: the mount answers within half of that."""

Found = dict[str, Any]


class NoAnswer(SetupError):
    """The mount did not answer in time."""


@dataclass(frozen=True, slots=True)
class LiveMount:
    """A mount that answers: where it is, and how it is doing (:mod:`imagefs.status`)."""

    path: Path
    status: Found


def ask(action: str, *operands: str | Path, within_s: float) -> list[Found]:
    """What the probe finds, a row for each path. Raises NoAnswer."""
    with _probe(action, *operands) as probe:
        try:
            out, _ = probe.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"{operands[-1]}: the mount does not answer.") from None
    return [json.loads(line) for line in out.splitlines()]


def ask_one(action: str, *operands: str | Path, within_s: float) -> Found:
    """The only row. Raises NoAnswer; SetupError with the errno's text where it failed."""
    return _only(ask(action, *operands, within_s=within_s), operands[-1])


def _only(rows: list[Found], path: str | Path) -> Found:
    if not rows:
        raise NoAnswer(f"{path}: the mount could not be asked.")
    if "errno" in rows[0]:
        raise SetupError(f"{path}: {reason_of(rows[0]['errno'])}.")
    return rows[0]


def reason_of(number: int) -> str:
    """What an errno of a mount means."""
    own = {
        errno.ENOTCONN: "the mount has died; mount it again, which clears it",
        errno.EACCES: "the mount is not yours",
        errno.ENODATA: "this is no image",
        errno.EROFS: "the mount is read-only",
        errno.EBUSY: "it is pinned, or being changed",
        errno.ENOENT: "there is no such image or region",
        errno.EEXIST: "an image of that name exists already",
        errno.ETIMEDOUT: "the service did not answer in time",
        errno.EREMOTEIO: "the service refused it",
        errno.EDQUOT: "the service refused it for a quota of the account",
    }
    return own.get(number) or os.strerror(number)


@contextmanager
def following(action: str, *operands: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """The probe at work, whose standard output is to be read line by line; it ends with the context."""
    with _probe(action, *operands) as probe:
        yield probe


@contextmanager
def _probe(action: str, *operands: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    # It ends with the pipe: neither Ctrl-C between any two steps nor what else ends this process leaves it behind.
    reading, writing = os.pipe()
    probe: subprocess.Popen[bytes] | None = None
    try:
        # In a session of its own: Ctrl-C is for the command, which then ends the probe.
        probe = subprocess.Popen(  # noqa: S603  # no shell
            [sys.executable, "-P", "-m", "imagefs.probe", str(reading), action, *map(str, operands)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(reading,),
        )
        yield probe
    finally:
        os.close(reading)
        os.close(writing)
        if probe is not None:
            _end(probe)


def _end(probe: subprocess.Popen[bytes]) -> None:
    probe.kill()  # and not waited for: the kernel may not let it go
    if probe.stdout is not None:
        probe.stdout.close()
    try:
        probe.wait(1.0)
    except subprocess.TimeoutExpired:
        probe.returncode = -9  # left behind


def status_of(mountpoint: Path) -> Found:
    """How the mount is doing. Raises SetupError, with NoAnswer where it hangs."""
    rows = ask("get", "user.imagefs.status", mountpoint, within_s=STATUS_S)
    if rows and rows[0].get("errno") == errno.ENODATA:  # as a mount with --allow-other answers other users
        raise SetupError(f"{mountpoint}: only who mounted it, and root, can ask how it is doing.")
    status: Found = json.loads(_only(rows, mountpoint)["value"])
    return status


def is_dead(mountpoint: Path) -> bool:
    """Whether the process behind a mount is gone. Raises NoAnswer where it is stuck.

    Another user's live mount answers EACCES (mount.fuse3(8)). Attributes are never answered from what the kernel
    remembers.
    """
    rows = ask("get", "user.imagefs.pid", mountpoint, within_s=STATUS_S)
    return bool(rows) and rows[0].get("errno") in (errno.ENOTCONN, errno.ECONNABORTED)


def require_region(mountpoint: Path, region: str) -> None:
    """Raise SetupError where the mounted account has no such region."""
    rows = ask("get", "user.imagefs.id", mountpoint / encode(region), within_s=STATUS_S)
    if rows and rows[0].get("errno") == errno.ENOENT:
        raise SetupError(f"There is no region {region!r}: see ls {mountpoint}.")


def mountpoint_of(path: Path) -> Path:
    """The mount point that *path* is below. Raises SetupError where that is none of imagefs."""
    mount = own_mount_above(path)
    if mount is None:
        raise SetupError(f"{path} is not on a mount of imagefs.")
    return Path(os.fsdecode(mount.mountpoint))


def live_mount(api_id: str, api_url: str, cache_dir: Path | None = None) -> LiveMount | None:
    """A mount of the account that answers; one that may write before one that may not.

    With *cache_dir*, only the one that has this cache.
    """
    found: LiveMount | None = None
    for mount in own_mounts():
        if mount.source != f"imagefs:{api_id}".encode():
            continue
        path = Path(os.fsdecode(mount.mountpoint))
        try:
            status = status_of(path)
        except SetupError:
            continue
        is_meant = status["api_url"] == api_url and cache_dir in (None, Path(status["cache"]["dir"]))
        if is_meant and (found is None or found.status["read_only"]):
            found = LiveMount(path, status)
    return found
