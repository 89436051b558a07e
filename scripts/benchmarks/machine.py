"""This machine: its page cache, commands that are timed, and what it is.

Used by all experiments.
"""

from __future__ import annotations

import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyfuse3

from imagefs import __version__

DROP_CACHES: Final = Path("/proc/sys/vm/drop_caches")
PROGRAMS: Final = ("curl", "dd", "fusermount3", "head", "ls", "rclone", "umount")
IMAGEFS: Final = str(Path(sys.executable).with_name("imagefs"))
MIB: Final = 1 << 20


class BenchError(Exception):
    """Something could not be measured; the message is one line for the person who asked."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What one command took: seconds on the clock, and of CPU in user space and in the kernel."""

    wall_s: float
    user_s: float
    system_s: float


def require() -> None:
    """Raise BenchError where the benchmark cannot run on this machine."""
    if not os.access(DROP_CACHES, os.W_OK) or os.geteuid() != 0:
        raise BenchError("Only root may empty the page cache before each measurement; run this as root.")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise BenchError("/dev/fuse is missing; install fuse3, or pass the device into the container.")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise BenchError(f"Missing here: {', '.join(missing)}; run scripts/setup --dev.")


def make_cold(served: Iterable[Path] = ()) -> None:
    """Empty the page cache, then bring back into it what is not to be measured.

    That is *served*, the files that the server sends, and the programs themselves. All dirty pages are written
    first (sync(2) waits for it on Linux): one program's writing must not slow the next down.
    """
    os.sync()
    DROP_CACHES.write_text("3\n", encoding="ascii")
    for path in served:
        _read_all(path)
    for program in ("curl", "dd", "head", "ls"):
        subprocess.run([program, "--version"], stdout=subprocess.DEVNULL, check=True)


def timed(*command: str | Path) -> Timing:
    """Run *command*, throw its output away and tell what it took. Raises BenchError where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_s = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    wall_s = time.perf_counter() - began_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise BenchError(f"{shlex.join(map(str, command))}: {_last_line(done.stderr) or done.returncode}")
    return Timing(wall_s, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)


def read_by_many(paths: Iterable[Path]) -> None:
    """Read each of *paths* front to back, all at once, a process each. Raises BenchError where one fails."""
    readers = [subprocess.Popen(reader_of(path)) for path in paths]
    try:
        statuses = [reader.wait() for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
    if any(statuses):
        raise BenchError(f"{sum(map(bool, statuses))} of {len(statuses)} readers failed.")


def reader_of(path: Path) -> tuple[str, ...]:
    """The command that reads a file front to back."""
    return ("dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none")


def description() -> dict[str, str | int]:
    """What was measured on, for whoever compares results."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count() or 0,
        "memory_bytes": memory_bytes,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "pyfuse3": pyfuse3.__version__,
        "imagefs": __version__,
        "curl": _first_line("curl", "--version"),
        "rclone": _first_line("rclone", "version"),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition("\n")[0]


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _read_all(path: Path) -> None:
    buffer = bytearray(MIB)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
