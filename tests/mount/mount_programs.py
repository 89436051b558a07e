"""Programs run as this or another user of this machine, as people run them on a mount."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SYSTEM_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Person:
    """Who runs a program: the words before each command, how imagefs is called, and what is in the environment."""

    uid: int
    gid: int
    imagefs: tuple[str, ...]
    prefix: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


MYSELF: Final = Person(os.getuid(), os.getgid(), (str(Path(sys.executable).with_name("imagefs")),))
"""Who runs the tests."""

_CUT_OFF: Final = "nsenter --mount=/proc/self/ns/mnt --root=/ mount --no-canonicalize --make-rslave ."
_LEAVE_OTHERS: Final = "umount --all --lazy --internal-only --types fuse.imagefs 2> /dev/null"

AS_A_CONTAINER: Final = (
    *("unshare", "--mount", "--propagation", "unchanged"), *("sh", "-c", f'{_CUT_OFF} && exec "$@"', "sh")
)  # fmt: skip
"""Words before a command of root's: what it mounts is seen by nobody else, and goes with its last process. All that is
mounted now stays mounted there, and its processes at work.

``unshare --propagation slave`` is not enough: in a chroot that is no mount point itself it fails. Whoever enters a
mount namespace is at its real root, though, where everything that is mounted can be cut off.
"""

IN_OWN_NAMESPACE: Final = (*AS_A_CONTAINER, "sh", "-c", f'{_LEAVE_OTHERS}; exec "$@"', "sh")
"""The same, without the mounts of tests that run at the same time: their processes could not end before this.
One that cannot be reached is left."""


def nobody(site_packages: Path) -> Person:
    """The user that each Linux has and that may do nothing special; *site_packages* is what it can import from."""
    entry = pwd.getpwnam("nobody")
    become = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--")
    python = os.path.realpath(sys.executable)
    return Person(
        entry.pw_uid,
        entry.pw_gid,
        (python, "-m", "imagefs"),
        become,
        {"PYTHONPATH": str(site_packages), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def environment_of(person: Person, **more: str) -> dict[str, str]:
    """The environment for *person*'s programs; their messages are English."""
    plain = {"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8", "HOME": os.environ["HOME"]}
    return {**plain, **person.environment, **more}


def attempt(
    *command: str | Path,
    person: Person = MYSELF,
    environment: Mapping[str, str] | None = None,
    given: bytes = b"",
    timeout_s: float = 60.0,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, whatever that is."""
    return subprocess.run(
        [*person.prefix, *map(str, command)],
        input=given,
        capture_output=True,
        env=environment if environment is not None else environment_of(person),
        timeout=timeout_s,
        check=False,
    )


def run(*command: str | Path, person: Person = MYSELF, given: bytes = b"", timeout_s: float = 60.0) -> bytes:
    """What a program prints; it must succeed."""
    done = attempt(*command, person=person, given=given, timeout_s=timeout_s)
    assert done.returncode == 0, f"{command} failed with {done.returncode}: {done.stderr.decode()}"
    return done.stdout


def text(*command: str | Path, person: Person = MYSELF) -> str:
    """What a program prints, as text without the last newline; it must succeed."""
    return run(*command, person=person).decode().removesuffix("\n")


def refusal(*command: str | Path, person: Person = MYSELF, timeout_s: float = 60.0) -> str:
    """What a program says on standard error; it must fail."""
    done = attempt(*command, person=person, timeout_s=timeout_s)
    assert done.returncode != 0, f"{command} did not fail; it printed {done.stdout[:500]!r}"
    return done.stderr.decode()


@contextmanager
def started(
    *command: str | Path, person: Person = MYSELF, group: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A running program; what it prints can be had from it. *group* 0 gives it a process group of its own."""
    with subprocess.Popen(
        [*person.prefix, *map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment_of(person), process_group=group,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def eventually(is_so: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait until *is_so*; fails where it is not in time."""
    ends = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)
