"""The mount's process: what ``imagefs mount`` starts, in a process that has loaded it all before.

Starting Python and loading the program takes longer than the steps that a mount lives for.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

from histories.programs import PATIENCE_S
from imagefs.account import AccountSettings
from imagefs.app import MountConfig, run
from imagefs.cli import logs
from imagefs.core.models import Credentials
from imagefs.emulator import Emulator
from imagefs.fuse.mountpoint import prepare_mountpoint, unmount
from imagefs.fuse.mounts import mount_at

HASTY: Final = AccountSettings(
    pending_ttl_s=0.1,
    retry_first_s=0.1,
    failure_ttl_s=0.2,
    write_delay_s=0.05,
    second_look_s=0.05,
    look_for_s=0.2,
    poll_first_s=0.02,
    poll_max_s=0.1,
)
"""The pauses of a mount whose service makes an image in no time: what comes of waiting comes sooner."""

CACHE_BYTES: Final = 64 << 20
LOG_LEVEL: Final = "info"

_PROBLEM: Final = re.compile(r"^\S+ \S+ (?:ERROR|CRITICAL) |^Traceback ", re.MULTILINE)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["histories.daemon"])


class Daemon:
    """One mount point in *folder*, mounted by one process after another, with its log and its cache."""

    def __init__(self, folder: Path, service: Emulator) -> None:
        self.path = folder / "mount"
        self._log_file = folder / "log"
        self._config = MountConfig(
            mountpoint=self.path,
            credentials=Credentials(service.api_id, service.api_key),
            api_url=service.api_url,
            cache_dir=folder / "cache",
            cache_size_bytes=CACHE_BYTES,
            min_free_bytes=0,
            uid=os.getuid(),
            gid=os.getgid(),
            account_settings=HASTY,
        )
        self._process: ForkServerProcess | None = None
        self.path.mkdir()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def mount(self) -> None:
        """Mount, clearing away what a process that was killed has left; fails where that does not succeed."""
        reading, writing = _FORKS.Pipe(duplex=False)
        process = _FORKS.Process(target=_serve, args=(self._config, self._log_file, writing), daemon=True)
        process.start()
        self._process = process
        writing.close()
        with reading:
            connection.wait([reading, process.sentinel], PATIENCE_S)
            try:
                is_ready = reading.poll() and reading.recv()
            except EOFError:
                is_ready = False
            assert is_ready, f"it could not be mounted: {self.log[-2000:]}"

    def umount(self) -> None:
        """Unmount as people do; the process must end."""
        unmount(self.path)
        self._await_end()

    def kill(self) -> None:
        """End the process as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._await_end()

    def _await_end(self) -> None:
        assert self._process is not None
        self._process.join(PATIENCE_S)
        assert self._process.exitcode is not None, f"the mount does not end: {self.log[-2000:]}"
        self._process.close()
        self._process = None

    def clear_away(self) -> None:
        """Leave no mount and no process behind, whatever state they are in."""
        if self._process is not None:
            self._process.kill()
            self._await_end()
        while mount_at(self.path) is not None:
            unmount(self.path, lazy=True)

    @property
    def has_work(self) -> bool:
        """Whether the mount has anything under way that it has begun itself."""
        status = json.loads(os.getxattr(self.path, "user.imagefs.status"))
        return any(row["kind"] != "image" for row in status["pending"])

    @property
    def log(self) -> str:
        """What was logged so far."""
        return self._log_file.read_text() if self._log_file.exists() else ""

    @property
    def problems(self) -> list[str]:
        """The errors of the log: a history brings about none."""
        return [line for line in self.log.splitlines() if _PROBLEM.match(line)]


def _serve(config: MountConfig, log_file: Path, told: connection.Connection) -> None:
    os.setsid()  # Ctrl-C is for who started the histories
    logs.to_file(log_file, LOG_LEVEL)
    # A plain service needs no certificates; reading those to trust takes half of a mount's time.
    os.environ["REQUESTS_CA_BUNDLE"] = str(config.mountpoint.parent)
    prepare_mountpoint(config.mountpoint, lambda _: True)  # what is still mounted there was killed
    run(config, lambda: told.send(True))
