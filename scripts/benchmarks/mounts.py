"""imagefs and rclone, mounted with caches of their own until a block ends.

Used by the experiments. A mount is handed out when its listing can be read; no content was looked at then.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.machine import IMAGEFS, BenchError
from benchmarks.server import REGION, Server
from imagefs.fuse.mounts import mount_at

START_S: Final = 60.0
STOP_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted tree: its root, the directory with the images that have content, and the process behind it."""

    root: Path
    images: Path
    pid: int


def directory(scratch: Path, name: str) -> tempfile.TemporaryDirectory[str]:
    """An empty directory below *scratch*, until the block ends."""
    return tempfile.TemporaryDirectory(dir=scratch, prefix=f"{name}-", ignore_cleanup_errors=True)


@contextmanager
def imagefs(server: Server, scratch: Path, cache_dir: Path | None = None) -> Iterator[Mount]:
    """A mount of imagefs, with a fresh cache where *cache_dir* is None. Raises BenchError."""
    with directory(scratch, "imagefs") as name:
        own = Path(name)
        root = own / "mount"
        root.mkdir()
        options = (
            *("--api-url", server.api_url, "--credentials", str(server.credentials_file)),
            *("--cache-dir", str(cache_dir or own / "cache"), "--log-file", str(own / "log")),
        )
        try:
            _checked(IMAGEFS, "mount", str(root), *options)
            pid = int(os.getxattr(root, "user.imagefs.pid"))
            list((root / REGION).iterdir())
            yield Mount(root, root / REGION, pid)
        finally:
            if mount_at(root) is not None:
                _checked(IMAGEFS, "umount", "--lazy", str(root))


@contextmanager
def rclone(server: Server, scratch: Path, cache_mode: str) -> Iterator[Mount]:
    """A mount of rclone over the server's plain index, with a fresh cache. Raises BenchError."""
    with directory(scratch, "rclone") as name:
        own = Path(name)
        root, configuration = own / "mount", own / "rclone.conf"
        root.mkdir()
        configuration.touch()
        command = (
            *("rclone", "mount", ":http:", str(root), "--http-url", server.plain_url),
            *(
                "--vfs-cache-mode",
                cache_mode,
                "--cache-dir",
                str(own / "cache"),
                "--config",
                str(configuration),
            ),
        )
        # A session of its own: on Ctrl-C it is unmounted here, once.
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
            try:
                _await_mount(root, process)
                list(root.iterdir())
                yield Mount(root, root, process.pid)
            finally:
                _end(root, process)


def _await_mount(root: Path, process: subprocess.Popen[bytes]) -> None:
    give_up_s = time.monotonic() + START_S
    while mount_at(root) is None:
        if process.poll() is not None or time.monotonic() > give_up_s:
            raise BenchError("rclone did not mount.")
        time.sleep(0.02)


def _end(root: Path, process: subprocess.Popen[bytes]) -> None:
    if mount_at(root) is not None:
        _checked("umount", "--lazy", str(root))
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()  # and Popen waits for its end


def _checked(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{command[0]} failed: {done.stderr.strip()}")
