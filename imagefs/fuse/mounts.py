"""What is mounted where on this machine, as the kernel tells it. Any thread; never touches a mounted tree."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILESYSTEM_TYPE: Final = "fuse.imagefs"

READ_AHEAD_KB: Final = 1024
"""The largest read that the kernel sends; its default of 128 KiB costs eight times as many requests."""

MOST_LINKS: Final = 40
"""As many as the kernel follows (path_resolution(7))."""

_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5)). ``device`` is MAJOR:MINOR."""

    device: str
    mountpoint: bytes
    filesystem_type: str
    source: bytes

    @property
    def read_ahead_knob(self) -> Path:
        """The kernel's file for the largest read of the mount, in KiB; only root may write it."""
        return Path("/sys/class/bdi", self.device, "read_ahead_kb")


def mounts(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[Mount]:
    """All mounts of this process's namespace, in the kernel's order: of two on one path, the later is seen."""
    return [_parse(line) for line in mountinfo.read_bytes().splitlines()]


def mount_at(path: Path) -> Mount | None:
    """What is mounted on *path* itself, whether it still works or not."""
    seen = _seen()
    return seen.get(os.fsencode(_followed(path, seen)))


def own_mounts() -> list[Mount]:
    """All mounts of imagefs, dead or alive."""
    return [mount for mount in mounts() if mount.filesystem_type == FILESYSTEM_TYPE]


def own_mount_above(path: Path) -> Mount | None:
    """The mount of imagefs that *path* is on. Links that lead there are followed, and nothing on it is touched."""
    seen = _seen()
    place = _followed(path, seen)
    for above in reversed((place, *place.parents)):
        mount = seen.get(os.fsencode(above))
        if mount is not None and mount.filesystem_type == FILESYSTEM_TYPE:
            return mount
    return None


def holder_of(device: str) -> int | None:
    """A process in whose mount namespace *device* is mounted; None where there is none that this user may look at."""
    for mountinfo in Path("/proc").glob("[0-9]*/mountinfo"):
        with suppress(OSError):  # it has ended, or is another user's
            if any(mount.device == device for mount in mounts(mountinfo)):
                return int(mountinfo.parent.name)
    return None


def absolute(path: Path) -> Path:
    """*path* without links and dots, as the kernel follows them (path_resolution(7)).

    What is on a mount of imagefs stays as it is, and neither that is touched nor what *path* leads to: a mount can be
    dead or stuck.
    """
    return _followed(path, _seen())


def _followed(path: Path, seen: Mapping[bytes, Mount]) -> Path:
    """As :func:`absolute`, with the mounts that were *seen*."""
    done, left = Path("/"), [*reversed(path.absolute().parts[1:])]
    links = 0
    while left:
        name = left.pop()
        mount = seen.get(os.fsencode(done))
        if name == "..":
            done = done.parent
        elif mount is not None and mount.filesystem_type == FILESYSTEM_TYPE:
            return done.joinpath(name, *reversed(left))
        elif links < MOST_LINKS and (target := _target_of(done / name)) is not None:
            links += 1
            if target.is_absolute():
                done, target = Path("/"), Path(*target.parts[1:])
            left += reversed(target.parts)
        else:
            done /= name
    return done


def _seen() -> dict[bytes, Mount]:
    """The mount that is seen at each mount point."""
    return {mount.mountpoint: mount for mount in mounts()}


def _target_of(path: Path) -> Path | None:
    try:
        return path.readlink()
    except OSError:
        return None  # it is no link


def _parse(line: bytes) -> Mount:
    own, _, rest = line.partition(b" - ")
    fields = own.split(b" ")
    filesystem_type, source = rest.split(b" ")[:2]
    return Mount(fields[2].decode(), _unescape(fields[4]), filesystem_type.decode(), _unescape(source))


def _unescape(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes((int(match[1], 8),)), field)
