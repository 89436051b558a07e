"""``imagefs umount``."""

from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Final

import click

from imagefs.cli.asking import STATUS_S, ask_one
from imagefs.cli.paths import Untouched
from imagefs.errors import SetupError
from imagefs.fuse.mountpoint import refuse_below, unmount
from imagefs.fuse.mounts import FILESYSTEM_TYPE, holder_of, mount_at

LAST_FLUSH_S: Final = 15.0
"""How long the mount's process may take to bring its cache to rest."""


@click.command("umount")
@click.argument("mountpoint", type=Untouched())
@click.option("--lazy", is_flag=True, help="Detach now, even while files are open.")
def umount_command(mountpoint: Path, lazy: bool) -> None:
    """Unmount MOUNTPOINT, and wait until its cache is at rest.

    \b
    Example:
      imagefs umount ~/images
    """
    take_down(mountpoint, lazy=lazy)


def take_down(mountpoint: Path, *, lazy: bool = False, last_flush_s: float = LAST_FLUSH_S) -> None:
    """Unmount, and wait for the mount's process as long as it may take. Raises SetupError."""
    refuse_below(mountpoint)
    mount = mount_at(mountpoint)
    if mount is None or mount.filesystem_type != FILESYSTEM_TYPE:
        raise SetupError(f"{mountpoint} is not a mount of imagefs.")
    daemon = _daemon_of(mountpoint)
    unmount(mountpoint, lazy=lazy)
    if daemon is None or _has_ended(daemon, last_flush_s):
        return
    holder = holder_of(mount.device)
    if holder is not None:
        told = "Unmounted here. It goes on, as the mount namespace of process "
        told += f"{holder} has it, too: a container, maybe."
    elif lazy:
        told = "Detached. Its process goes on until the last file of it is closed."
    else:
        told = "Unmounted; the cache is still being brought to rest in the background."
    click.echo(told, err=True)


def _daemon_of(mountpoint: Path) -> int | None:
    """A descriptor of the process behind the mount (pidfd_open(2)), or None where it does not answer."""
    try:
        row = ask_one("get", "user.imagefs.pid", mountpoint, within_s=STATUS_S)
        return os.pidfd_open(int(row["value"]))
    except (OSError, ValueError, SetupError):
        return None


def _has_ended(daemon: int, within_s: float) -> bool:
    poll = select.poll()
    poll.register(daemon, select.POLLIN)
    try:
        return bool(poll.poll(within_s * 1000))
    finally:
        os.close(daemon)
