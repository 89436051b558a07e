"""Commands on a pseudo-terminal, as people use them, and what then is on the screen."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

PATIENCE_S: Final = 60.0
"""How long something may take to show up on a slow machine."""


class Terminal:
    """One command with a terminal of its own; ``screen`` is all that it has written there."""

    def __init__(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> None:
        self.screen = ""
        own, theirs = pty.openpty()
        self._own = own
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *map(str, command)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "COLUMNS": "120",
                "LINES": "40",
                **(environment or {}),
            },
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._own)

    def await_text(self, text: str) -> None:
        """Wait until *text* is on the screen."""
        deadline_s = time.monotonic() + PATIENCE_S
        while text not in self.screen:
            assert self._read(deadline_s - time.monotonic()), (
                f"{text!r} did not come; on the screen: {self.screen!r}"
            )

    def type(self, text: str) -> None:
        """Type *text*."""
        os.write(self._own, text.encode())

    def press_ctrl_c(self) -> None:
        """What the key does: a signal to all that run in the foreground."""
        self.type("\x03")

    def ended(self) -> int:
        """Wait for the command's end; its status."""
        deadline_s = time.monotonic() + PATIENCE_S
        while self._read(deadline_s - time.monotonic()):
            pass
        return self.process.wait(max(0.1, deadline_s - time.monotonic()))

    def _read(self, timeout_s: float) -> bool:
        """Take what comes next; False where nothing comes any more, or in time."""
        if not select.select([self._own], [], [], max(0.0, timeout_s))[0]:
            return False
        try:
            raw = os.read(self._own, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.screen += raw.decode("utf-8", "replace")
        return bool(raw)
