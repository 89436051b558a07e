"""A mount that is killed, and mounted again: one mount point with its cache, for one process after another."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.machine import IMAGEFS
from imagefs.emulator import Emulator
from imagefs.fuse.mounts import mount_at

PROGRAM_S: Final = 120.0
MOUNT_S: Final = 120.0
END_S: Final = 120.0
STEP_S: Final = 0.02


class Stuck(Exception):
    """A process that should have ended, or a mount that should be there."""


class MortalMount:
    """A mount point with its cache, mounted by one process after another."""

    def __init__(self, folder: Path, service: Emulator, options: Sequence[str]) -> None:
        self.root = folder / "mount"
        self.service = service
        self._log_file = folder / "log"
        self._errors = folder / "errors"
        self._cache_dir = folder / "cache"
        self._command = (
            *(IMAGEFS, "mount", str(self.root), "--foreground", "--log-file", str(self._log_file)),
            *("--api-url", service.api_url, "--credentials", str(service.credentials_file)),
            *("--cache-dir", str(self._cache_dir), *options),
        )
        self.root.mkdir()

    def start(self, wrapper: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start the mount's process, in a session of its own."""
        with self._errors.open("ab") as errors:
            return subprocess.Popen(
                (*wrapper, *self._command), stdout=errors, stderr=errors, start_new_session=True
            )

    @contextmanager
    def running(self) -> Iterator[None]:
        """Mount, and unmount at the end of the block. Raises Stuck."""
        process = self.start()
        try:
            if not wait_until(lambda: self._is_alive() or process.poll() is not None, MOUNT_S):
                raise Stuck(f"not mounted; the log ends with: {self.log[-500:]}")
            if process.poll() is not None:
                raise Stuck(f"it could not be mounted: {self._errors.read_text()[-500:]}")
            yield
            subprocess.run(
                (IMAGEFS, "umount", str(self.root)), check=True, capture_output=True, timeout=END_S
            )
            process.wait(END_S)
        finally:
            kill_all(process)
            process.wait(END_S)

    def _is_alive(self) -> bool:
        """Whether a live process serves the mount."""
        if mount_at(self.root) is None:
            return False
        try:
            return any(self.root.iterdir())
        except OSError:
            return False

    def program(self, script: str) -> subprocess.Popen[bytes]:
        """A shell with *script*, started in the mount; what it prints is dropped."""
        return subprocess.Popen(
            (
                "sh",
                "-c",
                f'cd "$2" && {{ {script}\n}}',
                "sh",
                self.service.root_url.rstrip("/"),
                str(self.root),
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def run(self, script: str) -> bytes:
        """What *script* prints; it must succeed."""
        command = ("sh", "-c", f'cd "$1" && {script}', "sh", str(self.root))
        return subprocess.run(command, check=True, capture_output=True, timeout=PROGRAM_S).stdout

    def places(self) -> list[tuple[str, str]]:
        """(region, name) of each image of the account, sorted; where one is there twice, it is here twice."""
        return sorted((image.region, image.name) for image in self.service.images())

    def is_quiet(self) -> bool:
        """Whether no image is pending any more."""
        return all(image.status == "active" for image in self.service.images())

    @property
    def log(self) -> str:
        """What all mounts have logged."""
        return self._log_file.read_text() if self._log_file.exists() else ""

    def clear(self) -> None:
        """Leave no mount behind."""
        while mount_at(self.root) is not None:
            subprocess.run(("fusermount3", "-u", "-z", str(self.root)), check=False)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill the mount's process with whatever is around it, where it has not ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def wait_until(is_so: Callable[[], bool], within_s: float) -> bool:
    """Whether it came to be so in time."""
    ends_s = time.monotonic() + within_s
    while not is_so():
        if time.monotonic() > ends_s:
            return False
        time.sleep(STEP_S)
    return True
