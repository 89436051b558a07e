"""Standard streams for a process whose caller has closed some of them (``>&-``)."""

from __future__ import annotations

import os
import sys


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
