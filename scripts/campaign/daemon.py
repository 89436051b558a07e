"""The mount's process: started, killed, stopped, limited and looked at. One at a time, on one mount point."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from campaign.clock import CallClock
from imagefs.fuse.mounts import mount_at

IMAGEFS: Final = str(Path(sys.executable).with_name("imagefs"))
START_S: Final = 90.0
STOP_S: Final = 60.0
KILLED_S: Final = 10.0
"""A process that was killed and has not ended after so long is held by the kernel, which waits for that process."""


class MountFailed(Exception):
    """The mount did not start; the message says why."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the process holds now (proc_pid_status(5))."""

    rss_bytes: int
    descriptors: int
    threads: int


class Daemon:
    """``imagefs mount`` in the foreground, on a mount point in *folder*. *options* are given to every mount."""

    def __init__(
        self, folder: Path, clock: CallClock, options: Sequence[str | Path], cache_dir: Path | None = None
    ) -> None:
        self.root = folder / "mount"
        self.log_file = folder / "log"
        self.cache_dir = cache_dir or folder / "cache"
        self.options = tuple(map(str, options))
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self.stuck = 0
        self.root.mkdir(parents=True, exist_ok=True)

    @property
    def pid(self) -> int:
        """The process that serves the mount."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def mount(self, *options: str, extra_s: float = 0.0) -> None:
        """Mount, and wait until the tree can be used. Raises MountFailed."""
        command = (
            *(IMAGEFS, "mount", str(self.root), "--foreground", "--log-level", "debug"),
            *("--log-file", str(self.log_file), "--cache-dir", str(self.cache_dir)),
            *self.options,
            *options,
        )
        with self._clock.call("mount", "mount", extra_s):
            # A session of its own, so that Ctrl-C ends it only here, when nobody uses it any more.
            self._process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
            )
            self._await_ready(self._process)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        give_up_s = time.monotonic() + START_S
        while not self._is_ready(process):
            if process.poll() is not None:
                assert process.stderr is not None
                raise MountFailed(process.stderr.read().decode(errors="replace").strip() or "it said nothing")
            if time.monotonic() > give_up_s:
                process.kill()
                raise MountFailed(f"not mounted within {START_S:.0f} s")
            time.sleep(0.01)

    def _is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether this process serves the mount point; a dead mount may still be there when it starts."""
        if mount_at(self.root) is None:
            return False
        try:
            return int(os.getxattr(self.root, "user.imagefs.pid")) == process.pid
        except OSError:
            return False

    def unmount(self) -> None:
        """Unmount as a signal does it, and wait for the end."""
        if self.is_alive:
            assert self._process is not None
            with self._clock.call("unmount", "SIGTERM"):
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(STOP_S)
        self.clear_away()

    def kill(self) -> None:
        """End the process as a power cut would. One that the kernel holds is freed by ending its connection."""
        if self._process is None:
            return
        with self._clock.call("unmount", "the end after SIGKILL"):
            self._process.kill()
            try:
                self._process.wait(KILLED_S)
            except subprocess.TimeoutExpired:
                self.stuck += 1
                subprocess.run(["umount", "--force", self.root], check=False, capture_output=True)
                self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def clear_away(self) -> None:
        """Leave no mount and no process behind, whatever state they are in."""
        if self.is_alive:
            self.kill()
        while mount_at(self.root) is not None:
            done = subprocess.run(["umount", "--lazy", self.root], check=False, capture_output=True)
            if done.returncode != 0:
                time.sleep(0.1)

    @property
    def address_space_bytes(self) -> int:
        """What RLIMIT_AS counts of the process."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[0]
        return int(pages) * resource.getpagesize()

    def vitals(self) -> Vitals:
        """What the process holds. Raises OSError where it is gone."""
        proc = Path(f"/proc/{self.pid}")
        fields = dict(line.partition(":")[::2] for line in (proc / "status").read_text().splitlines())
        return Vitals(
            rss_bytes=int(fields["VmRSS"].split()[0]) << 10,
            descriptors=sum(1 for _ in (proc / "fd").iterdir()),
            threads=int(fields["Threads"]),
        )
