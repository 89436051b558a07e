"""Errors of the mount's system calls, put there by strace(1), which also counts them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ATTACH_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Injection:
    """Every *every*-th call of *calls*, from the *first* on, fails with *error* (an errno's name)."""

    calls: str
    error: str
    first: int = 1
    every: int = 3

    @property
    def kind(self) -> str:
        """How the campaign's table calls it."""
        return f"syscall: {self.calls} {self.error}"


@dataclass(slots=True)
class Injected:
    """How many calls failed so; known once the block has ended."""

    times: int = 0


@contextmanager
def injected(pid: int, injection: Injection, folder: Path) -> Iterator[Injected]:
    """Let system calls of all threads of process *pid* fail until the block ends."""
    output = folder / "strace"
    output.unlink(missing_ok=True)
    where = f"{injection.first}+{injection.every}"
    command = (
        *("strace", "-f", "-qq", "-p", str(pid), "-o", str(output)),
        *("-e", f"trace={injection.calls}"),
        *("-e", f"inject={injection.calls}:error={injection.error}:when={where}"),
    )
    counted = Injected()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await_attached(pid, process)
            yield counted
        finally:
            process.terminate()  # strace detaches from all threads and ends
            process.wait()
    if output.exists():
        counted.times = output.read_text(errors="replace").count("(INJECTED)")


def _await_attached(pid: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until every thread is traced (proc_pid_status(5), TracerPid), or the process has gone."""
    give_up_s = time.monotonic() + ATTACH_S
    while process.poll() is None and time.monotonic() < give_up_s:
        try:
            statuses = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        except OSError:
            return
        if all(f"TracerPid:\t{process.pid}\n" in status for status in statuses):
            return
        time.sleep(0.01)
