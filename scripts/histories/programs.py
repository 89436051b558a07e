"""Programs that use a mount, as people run them, and waiting for what they bring about."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

PATIENCE_S: Final = 120.0
"""Longer than it ever takes until the last thing that is under way has ended, on a slow machine."""

PROGRAM_S: Final = 60.0
LOOK_S: Final = 0.005
ENVIRONMENT: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}

Command = Sequence[str | Path]


def attempt(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, whatever that is."""
    return subprocess.run(
        list(map(str, command)), capture_output=True, env=ENVIRONMENT, timeout=PROGRAM_S, check=False
    )


def run(*command: str | Path) -> bytes:
    """What a program prints; it must succeed."""
    done = attempt(*command)
    assert done.returncode == 0, f"{command} failed with {done.returncode}: {done.stderr.decode()}"
    return done.stdout


def eventually(is_so: Callable[[], bool]) -> None:
    """Wait until *is_so*; fails where it is not in time."""
    ends_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < ends_s, "it did not happen in time"
        time.sleep(LOOK_S)
