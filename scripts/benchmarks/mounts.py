"""imagefs and rclone, mounted with caches of their own until a block ends.

Used by the experiments. A mount is handed out when its listing can be read; no content was looked at then.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
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


def mount_command(server: Server, root: Path, own: Path, cache_dir: Path | None = None) -> tuple[str, ...]:
    """Mounts on *root*; the log is below *own*, and so is the cache, unless *cache_dir* says where."""
    return (
        *(IMAGEFS, "mount", str(root), "--log-file", str(own / "log")),
        *("--api-url", server.api_url, "--credentials", str(server.credentials_file)),
        *("--cache-dir", str(cache_dir or own / "cache")),
    )


@contextmanager
def imagefs(server: Server, scratch: Path, cache_dir: Path | None = None) -> Iterator[Mount]:
    """A mount of imagefs, with a fresh cache where *cache_dir* is None. Raises BenchError."""
    with directory(scratch, "imagefs") as name:
        own = Path(name)
        root = own / "mount"
        command = mount_command(server, root, own, cache_dir)
        with _mounted(root, (*command, "--foreground")) as pid:
            list((root / REGION).iterdir())
            yield Mount(root, root / REGION, pid)


@contextmanager
def rclone(server: Server, scratch: Path, cache_mode: str) -> Iterator[Mount]:
    """A mount of rclone over the server's plain index, with a fresh cache. Raises BenchError."""
    with directory(scratch, "rclone") as name:
        own = Path(name)
        root, configuration = own / "mount", own / "rclone.conf"
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
        with _mounted(root, command) as pid:
            list(root.iterdir())
            yield Mount(root, root, pid)


@contextmanager
def _mounted(root: Path, command: Sequence[str]) -> Iterator[int]:
    """Run *command*, which mounts on *root* and stays, until the block ends; tells its process id."""
    root.mkdir()
    # In the foreground, so that it can be ended whatever it is at; in a session of its own, so that Ctrl-C ends it
    # only here, once nobody reads from it any more.
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            _await_mount(root, process)
            yield process.pid
        finally:
            _end(root, process)


def _await_mount(root: Path, process: subprocess.Popen[str]) -> None:
    give_up_s = time.monotonic() + START_S
    while mount_at(root) is None:
        if process.poll() is not None:
            assert process.stderr is not None
            raise BenchError(f"Could not be mounted: {process.stderr.read().strip()}")
        if time.monotonic() > give_up_s:
            raise BenchError(f"Not mounted within {START_S:.0f} s.")
        time.sleep(0.02)


def _end(root: Path, process: subprocess.Popen[str]) -> None:
    process.terminate()  # unmounts, and brings the cache to rest
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if mount_at(root) is not None:
        subprocess.run(["umount", "--lazy", root], check=False)
