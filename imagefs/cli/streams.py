"""Standard streams that work whatever the caller has made of them, and whatever is written to them."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper


def stand_in() -> None:
    """Open the null device in place of each stream that is closed.

    The next file to be opened would otherwise get its number: the cache's lock, perhaps, which a mount would then close
    when it leaves its terminal.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # so Python has it
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def bear_any_text() -> None:
    """Have what standard output cannot encode written as escapes, as Python does on standard error.

    Names and paths come from anywhere, and not every locale has all characters.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
