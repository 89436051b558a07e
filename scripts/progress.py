"""How far the commands in this directory are, on standard error, and what they print in the end."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Final

ON_TERMINAL_S: Final = 0.2
ELSEWHERE_S: Final = 30.0


class Progress:
    """On a terminal one line that changes, else a line every half minute; each says how long it has been going on."""

    def __init__(self) -> None:
        self._on_terminal = sys.stderr.isatty()
        self._began_s = self._next_s = time.monotonic()

    def show(self, text: str) -> None:
        """Show *text* if a line is due."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + (ON_TERMINAL_S if self._on_terminal else ELSEWHERE_S)
        line = f"{(now_s - self._began_s) / 60:5.1f} min  {text}"
        if self._on_terminal:
            self._replace(line[: _columns()])
        else:
            print(line, file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.end()
        print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clear the line that changes."""
        if self._on_terminal:
            self._replace("")

    def _replace(self, line: str) -> None:
        sys.stderr.write(f"\r{'':{_columns()}}\r{line}")
        sys.stderr.flush()


def _columns() -> int:
    """How long a line may be that a carriage return leads back to the start of."""
    return shutil.get_terminal_size().columns - 1


def table(rows: Mapping[str, object]) -> str:
    """Lines with a name and a figure each."""
    width = max(map(len, rows))
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())
