"""A mount made by the command that people use, and all that a test does with it."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import signal
import subprocess
from pathlib import Path
from typing import Final

from mount_programs import MYSELF, Person, attempt, environment_of, eventually, run, text

from imagefs.fuse.mounts import mount_at

END_S: Final = 60.0
"""How long a mount's process may take to end after an unmount, on a slow machine."""

_PROBLEM: Final = re.compile(r"^\S+ \S+ (?:WARNING|ERROR|CRITICAL) |^Traceback ")


class Mounted:
    """One mount point, mounted now or not, with its log and its cache.

    ``folder`` is where the log and the mount point are made. *options* are given to every mount of it.
    """

    def __init__(
        self,
        folder: Path,
        *options: str | Path,
        api_url: str,
        credentials: Path,
        cache_dir: Path,
        person: Person = MYSELF,
    ) -> None:
        self.path = folder / "mnt"
        self.log_file = folder / "log"
        self.cache_dir = cache_dir
        self.person = person
        self._environment = environment_of(person, HOME=str(folder))
        self._options = (
            *("--api-url", api_url),
            *("--credentials", credentials),
            *("--cache-dir", cache_dir),
            *("--log-file", self.log_file),
            *("--log-level", "debug"),
            *options,
        )
        self._expected: list[re.Pattern[str]] = []
        self._daemon: int | None = None
        folder.mkdir(exist_ok=True)
        self.path.mkdir()
        for made in (folder, self.path):
            os.chown(made, person.uid, person.gid)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    # --- mount and unmount ---

    def imagefs(self, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        """Run ``imagefs`` as the mount's owner."""
        command = (*self.person.imagefs, *arguments)
        return attempt(*command, person=self.person, environment=self._environment)

    def try_mount(self, *options: str | Path) -> subprocess.CompletedProcess[bytes]:
        """Run ``imagefs mount``, whatever comes of it."""
        return self.imagefs("mount", self.path, *self._options, *options)

    def mount(self, *options: str | Path) -> None:
        """Mount; must succeed without a word."""
        done = self.try_mount(*options)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done
        self._forget_daemon()
        self._daemon = os.pidfd_open(self.pid)

    @property
    def command(self) -> list[str]:
        """How to mount it."""
        return [*self.person.prefix, *self.person.imagefs, "mount", str(self.path), *map(str, self._options)]

    @property
    def foreground_command(self) -> list[str]:
        """How to mount it in the foreground."""
        return [*self.command, "-f"]

    @property
    def pid(self) -> int:
        """The process that serves the mount."""
        return int(
            text(
                "getfattr", "--only-values", "-n", "user.imagefs.pid", "--absolute-names", self.path,
                person=self.person,
            )
        )  # fmt: skip

    @property
    def open_images(self) -> int:
        """How many open files of images the mount's process has; none where it is dead."""
        try:
            return int(json.loads(os.getxattr(self.path, "user.imagefs.status"))["open"])
        except OSError:
            return 0

    @property
    def is_mounted(self) -> bool:
        """Whether the kernel has a mount there, dead or alive."""
        return mount_at(self.path) is not None

    def umount(self) -> None:
        """Unmount as people do; the mount's process must end. What programs have closed must not be open there."""
        if self.person is MYSELF:
            eventually(lambda: not self.open_images)
        done = self.imagefs("umount", self.path)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done
        assert self.ended()

    def remount(self, *options: str | Path) -> None:
        """Unmount and mount again."""
        self.umount()
        self.mount(*options)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the mount's process."""
        assert self._daemon is not None
        signal.pidfd_send_signal(self._daemon, number)

    def kill(self) -> None:
        """End the mount's process as a power cut would, and wait for its end."""
        self.send(signal.SIGKILL)
        assert self.ended()

    def ended(self, within_s: float = END_S) -> bool:
        """Whether the mount's process has ended; waits for it."""
        if self._daemon is None:
            return True
        poll = select.poll()
        poll.register(self._daemon, select.POLLIN)
        return bool(poll.poll(within_s * 1000))

    def clean_up(self) -> list[str]:
        """Leave nothing behind; what went wrong in the mount's life and was not expected."""
        problems = []
        while self.is_mounted:
            attempt("fusermount3", "-u", "-z", self.path)
        if not self.ended():
            problems.append(f"The process of {self.path} had to be killed.")
            self.kill()
        self._forget_daemon()
        return problems + [line for line in self._problem_lines() if not self._is_expected(line)]

    def _forget_daemon(self) -> None:
        if self._daemon is not None:
            os.close(self._daemon)
            self._daemon = None

    # --- the log ---

    @property
    def log(self) -> str:
        """What was logged so far."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def may_log(self, *patterns: str) -> None:
        """These warnings and errors are part of the test; any other fails it at its end."""
        self._expected += map(re.compile, patterns)

    def _problem_lines(self) -> list[str]:
        return [line for line in self.log.splitlines() if _PROBLEM.match(line)]

    def _is_expected(self, line: str) -> bool:
        return any(pattern.search(line) for pattern in self._expected)

    # --- looking at files ---

    def xattr(self, file: Path, name: str) -> str:
        """The extended attribute ``user.imagefs.NAME`` of *file*.

        getfattr asks for its size first, and fails where it has grown in between (ERANGE, getxattr(2)).
        """
        command = ("getfattr", "--only-values", "--absolute-names", "-n", f"user.imagefs.{name}", file)
        done = attempt(*command, person=self.person)
        while os.strerror(errno.ERANGE) in done.stderr.decode():
            done = attempt(*command, person=self.person)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().removesuffix("\n")

    def drop_pages(self, file: Path) -> None:
        """Let the kernel forget what it has cached of *file* (posix_fadvise(2), as documented for dd)."""
        run("dd", f"if={file}", "of=/dev/null", "iflag=nocache", "count=0", person=self.person)
