"""How far the campaign is: on a terminal one line that changes, else a line every half minute."""

from __future__ import annotations

import sys
import time
from typing import Final

EVERY_S: Final = 30.0


class Progress:
    """Writes to standard error."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._next_s = time.monotonic()
        self._width = 0

    def show(self, text: str) -> None:
        """Show *text*, now or with the next line that is due."""
        if self._on_terminal:
            sys.stderr.write(f"\r{text:<{self._width}}")
            self._width = len(text)
            sys.stderr.flush()
        elif time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + EVERY_S
            self.say(text)

    def say(self, text: str) -> None:
        """Write a line that stays."""
        if self._on_terminal and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            self._width = 0
        print(text, file=sys.stderr, flush=True)
