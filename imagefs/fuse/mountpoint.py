"""The directory to mount on, seen from outside: before a mount, and to end one. Needs no FUSE library."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from imagefs.errors import SetupError
from imagefs.fuse.mounts import FILESYSTEM_TYPE, Mount, absolute, mount_at, own_mount_above

logger = logging.getLogger(__name__)

_BUSY: Final = os.strerror(errno.EBUSY)
"""How fusermount3 ends its line where the mount is busy; like Python, it does not translate that."""

BUSY_S: Final = 2.0
"""How long to wait for whoever only looks: a mount is busy while anything is asked of it, such as its status."""


def prepare_mountpoint(mountpoint: Path, is_dead: Callable[[Path], bool]) -> None:
    """Make sure that *mountpoint* can be mounted on; clears what a mount of ours that died left there.

    *is_dead* tells whether the process behind a mount of ours is gone, and raises SetupError where it cannot be
    told: whoever touches a mount that is stuck is stuck as well. Raises SetupError.
    """
    refuse_below(mountpoint)
    mount = _automounted(mountpoint)
    if mount is not None and mount.filesystem_type == FILESYSTEM_TYPE:
        if not is_dead(mountpoint):
            raise already_mounted(mountpoint)
        unmount(mountpoint, lazy=True)
        logger.info("Cleared a mount that had died from %s.", mountpoint)
    elif mount is not None and mount.filesystem_type != "autofs":
        raise SetupError(f"{mountpoint} is already a mount point, of type {mount.filesystem_type}.")
    try:
        if not mountpoint.is_dir():
            what = (
                "is not a directory"
                if mountpoint.exists()
                else f"does not exist. Make it first: mkdir {mountpoint}"
            )
            raise SetupError(f"The mount point {mountpoint} {what}")
        if any(mountpoint.iterdir()):
            raise SetupError(f"The mount point {mountpoint} is not empty.")
    except OSError as error:
        raise SetupError(f"The mount point {mountpoint} cannot be used: {error.strerror}.") from error


def already_mounted(mountpoint: Path) -> SetupError:
    """The error where a mount of ours is on *mountpoint*."""
    return SetupError(f"{mountpoint} is already mounted. Unmount it first: imagefs umount {mountpoint}")


def refuse_below(path: Path) -> None:
    """Raise SetupError for a *path* below a mount of ours, which may be stuck: nothing there is touched."""
    above = own_mount_above(path)
    if above is not None and above.mountpoint != os.fsencode(absolute(path)):
        raise SetupError(f"{path} is below the mount at {os.fsdecode(above.mountpoint)}.")


def may_allow_other() -> bool:
    """Whether this user's mounts can be opened to others: root's can, and with root's leave anybody's (fuse(8))."""
    if os.geteuid() == 0:
        return True
    try:
        lines = Path("/etc/fuse.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return "user_allow_other" in (line.strip() for line in lines)


def unmount(mountpoint: Path, *, lazy: bool = False) -> None:
    """Unmount *mountpoint* from outside, as root or through fusermount3. Raises SetupError."""
    gives_up_at = time.monotonic() + BUSY_S
    while (reason := _failure_of_fusermount(mountpoint, lazy=lazy)) is not None:
        if not reason.endswith(_BUSY):  # before that it names the path
            raise SetupError(f"{mountpoint} could not be unmounted: {reason or 'fusermount3 failed'}.")
        if time.monotonic() > gives_up_at:
            raise SetupError(
                f"{mountpoint} is busy: a program has a file or directory of it open (see: fuser -vm {mountpoint})."
            )
        time.sleep(BUSY_S / 20)


def _failure_of_fusermount(mountpoint: Path, *, lazy: bool) -> str | None:
    """Why fusermount3 did not unmount *mountpoint*; None where it did."""
    command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", str(absolute(mountpoint))]
    try:
        done = subprocess.run(  # noqa: S603  # no shell, and after --
            command, capture_output=True, text=True, errors="replace", check=False
        )
    except FileNotFoundError as error:
        raise SetupError("fusermount3 is not installed. On Debian: apt-get install fuse3") from error
    return done.stderr.strip().removeprefix("fusermount3: ") if done.returncode else None


def _automounted(mountpoint: Path) -> Mount | None:
    """What is mounted at *mountpoint*, after its automounter, if it has one, could mount something there.

    Only the automounter itself, and what it has started in order to mount, finds an empty directory there.
    """
    mount = mount_at(mountpoint)
    if mount is not None and mount.filesystem_type == "autofs":
        with suppress(OSError):  # nothing could be mounted
            os.listdir(mountpoint)  # noqa: PTH208  # only the look counts
        mount = mount_at(mountpoint)
    return mount
