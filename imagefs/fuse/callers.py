"""Who makes a request, as /proc tells (proc(5)). On any thread."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

GENERATIONS: Final = 32
"""How many ancestors of a process are looked at, at most: as they end meanwhile, their numbers can become anybody's."""


UNMEANT: Final = 1 << (signal.SIGURG - 1)
"""The bit of the signal that Go sends its own threads to have them let others run. No user means it, and a program
written in Go that gets EINTR for it fails, as it gets none for files elsewhere."""


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
        tgid = self._status().get("Tgid")
        return None if tgid is None else int(tgid)

    @property
    def programs(self) -> Iterator[str]:
        """The names of its process and of those that started it, the nearest first, as far as they can be seen.

        Each is what the kernel keeps of it: 15 bytes (comm in proc(5)).
        """
        process = self.process or 0
        for _ in range(GENERATIONS):
            stat = Caller(process)._stat()
            if stat is None:
                return
            name, (_, parent, *_) = stat
            yield name
            process = int(parent)

    @property
    def has_signal(self) -> bool:
        """Whether a signal that means something waits for the thread to be delivered, or that cannot be told."""
        status = self._status()
        if not self.thread or not {"SigPnd", "ShdPnd", "SigBlk", "SigIgn"} <= status.keys():
            return True
        own, shared, blocked, ignored = (
            int(status[mask], 16) for mask in ("SigPnd", "ShdPnd", "SigBlk", "SigIgn")
        )
        return bool((own | shared) & ~(blocked | ignored | UNMEANT))

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
        stat = self._stat()  # None for another user's process where /proc hides those
        return stat is not None and stat[1][0] in ("Z", "X")

    def _stat(self) -> tuple[str, list[str]] | None:
        """The thread's name, and what follows it in its line: the state, the parent's process; None if not seen."""
        try:
            text = Path(f"/proc/{self.thread}/stat").read_text("ascii", "replace")
        except OSError:
            return None
        before, _, after = text.rpartition(")")
        return before.partition("(")[2], after.split()

    def _status(self) -> dict[str, str]:
        """The lines of the thread's status, by what they are about; none where they cannot be read."""
        try:
            text = Path(f"/proc/{self.thread}/status").read_text("ascii", "replace")
        except OSError:
            return {}
        return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
