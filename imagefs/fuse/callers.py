"""Who makes a request, as /proc tells (proc(5)). On any thread."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Caller:
    """The thread that made a request, and what the kernel calls its lock owner: one for each table of descriptors.

    Each is 0 where it is not known: of a process in a container that cannot be seen from here, and of a request that
    carries none.
    """

    thread: int
    owner: int = 0

    @property
    def process(self) -> int | None:
        """The thread's process; None where it cannot be told."""
        try:
            lines = Path(f"/proc/{self.thread}/status").read_text("ascii", "replace").splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) for line in lines if line.startswith("Tgid:")), None)

    @property
    def is_gone(self) -> bool:
        """Whether the thread has surely ended; it may still wait for its parent to take note."""
        if not self.thread:
            return False
        try:
            os.kill(self.thread, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        try:
            status = Path(f"/proc/{self.thread}/stat").read_text("ascii", "replace")
        except OSError:  # another user's, in a /proc that hides these
            return False
        return status.rpartition(")")[2].split()[0] in ("Z", "X")
