"""Checks of FUSE and of the mounts on this machine. None touches a mounted tree in this process, which could hang."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from imagefs.cli.doctor.findings import Finding, failure, ok, warning
from imagefs.fuse.mountpoint import may_allow_other
from imagefs.fuse.mounts import FILESYSTEM_TYPE, READ_AHEAD_KB, Mount, mounts

INSTALL: Final = "On Debian or Ubuntu: sudo apt-get install fuse3"
PROBE_S: Final = 5.0
"""How long a mount may take to answer statfs(2), which asks nothing of the service."""


def check_machine() -> Iterator[Finding]:
    """All checks of this machine that do not depend on the account."""
    yield _device()
    yield _fusermount()
    yield from _libfuse()
    yield _user_allow_other()
    for mount in mounts():
        if mount.filesystem_type == FILESYSTEM_TYPE:
            yield from _mount(mount)


def _device() -> Finding:
    what = "/dev/fuse"
    if not Path(what).exists():
        return failure(
            what, "There is none.", "sudo modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN"
        )  # fmt: skip
    if not os.access(what, os.R_OK | os.W_OK):
        return failure(what, "It is not yours to use.", "sudo chmod 666 /dev/fuse, as udev has it")
    return ok(what, "It is there and yours to use.")


def _fusermount() -> Finding:
    program = shutil.which("fusermount3")
    if program is None:
        return failure("fusermount3", "It is not installed.", INSTALL)
    if os.geteuid() != 0 and not Path(program).stat().st_mode & 0o4000:
        return failure(
            "fusermount3", f"{program} is not set-user-ID, so that only root can mount.", "sudo chmod u+s " + program
        )  # fmt: skip
    return ok("fusermount3", program)


def _libfuse() -> Iterator[Finding]:
    try:
        from imagefs.fuse import interpose  # noqa: PLC0415  # must be loaded before pyfuse3, which may be missing

        addition = interpose.load()
        import pyfuse3  # noqa: PLC0415  # as above
    except ImportError as error:
        yield failure("libfuse", f"It cannot be loaded: {error}.", INSTALL)
        return
    yield ok("libfuse", f"pyfuse3 {pyfuse3.__version__}{_version_of_libfuse()}")
    if addition is None:
        yield warning(
            "C addition",
            "It was not built: copies between regions read and write every byte, and Ctrl-C may have to wait.",
            "sudo apt-get install gcc libfuse3-dev pkg-config, then install imagefs again",
        )
    else:
        yield ok("C addition", "Copies between regions move no bytes, and Ctrl-C ends every wait.")


def _version_of_libfuse() -> str:
    """The version that fusermount3 prints, which is built from the same source, for the end of a message."""
    program = shutil.which("fusermount3")
    if program is None:
        return ""
    command = [program, "--version"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  # no shell
    except (OSError, subprocess.TimeoutExpired):
        return ""
    version = said.stdout.strip().rpartition(" ")[2]
    return f", libfuse {version}" if version else ""


def _user_allow_other() -> Finding:
    what = "user_allow_other"
    if may_allow_other():
        return ok(what, "--allow-other can be used.")
    return warning(
        what,
        "It is not in /etc/fuse.conf: --allow-other cannot be used.",
        f"echo {what} | sudo tee -a /etc/fuse.conf",
    )


def _mount(mount: Mount) -> Iterator[Finding]:
    path = os.fsdecode(mount.mountpoint)
    what = f"mount {path}"
    state = _state(path)
    if state == "dead":
        yield failure(what, "Its process has died.", f"imagefs umount --lazy {path}, and mount again")
    elif state == "hung":
        yield failure(
            what, f"It has not answered for {PROBE_S:.0f} s.", f"sudo umount -f -l {path}, and mount again"
        )
    else:
        yield ok(what, "It answers.")
        yield from _readahead(mount, path)


def _state(path: str) -> str:
    """``dead``, ``hung`` or ``alive``; asked by a process that can be left behind if it hangs."""
    reading, writing = os.pipe()
    probe = os.posix_spawnp(
        "stat",  # coreutils
        ["stat", "--file-system", "--format=", "--", path],
        {**os.environ, "LC_ALL": "C"},
        file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_DUP2, writing, 2)],
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        if not select.select([said], [], [], PROBE_S)[0]:
            os.kill(probe, signal.SIGKILL)
            return "hung"
        complaint = said.read().decode("utf-8", "replace")
    os.waitpid(probe, 0)
    died = "not connected" in complaint or "connection abort" in complaint
    return "dead" if died else "alive"  # another user's live mount answers with a refusal


def _readahead(mount: Mount, path: str) -> Iterator[Finding]:
    try:
        size_kb = int(mount.read_ahead_knob.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return  # unmounted by now, or a container that is not shown it
    what = f"readahead of {path}"
    if size_kb < READ_AHEAD_KB:
        yield warning(
            what,
            f"{size_kb} KiB: reading takes more requests than it has to.",
            "imagefs system-file readahead.rules | sudo tee /etc/udev/rules.d/90-imagefs.rules, and mount again",
        )
    else:
        yield ok(what, f"{size_kb} KiB")
