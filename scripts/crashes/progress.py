"""A line on the terminal while it runs, and the table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping


class Progress:
    """Shows how far a campaign is, at most five times a second, where standard error is a terminal."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._began_s = time.monotonic()
        self._shown_s = 0.0
        self._is_terminal = sys.stderr.isatty()

    def show(self, done: int, note: str = "") -> None:
        """*done* of all are over; *note* tells what is being done."""
        now_s = time.monotonic()
        if self._is_terminal and now_s > self._shown_s + 0.2:
            self._shown_s = now_s
            text = f"{self._what}: {done} of {self._total}, {now_s - self._began_s:.0f} s {note}"
            sys.stderr.write(f"\r{text[:78]:78}")
            sys.stderr.flush()

    def end(self) -> float:
        """Clear the line; the seconds that it all took."""
        if self._is_terminal:
            sys.stderr.write(f"\r{'':78}\r")
        return time.monotonic() - self._began_s


def table(rows: Mapping[str, object]) -> str:
    """Lines with a name and a figure each."""
    width = max(map(len, rows))
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())
