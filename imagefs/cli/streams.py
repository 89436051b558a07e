"""Standard streams for a process whose caller has closed some of them (``>&-``)."""

from __future__ import annotations

import os
import sys


def stand_in() -> None:
    """Have the null device in place of each stream that is closed.

    Else its number would be that of the next file to be opened, the cache's lock perhaps, which a mount would close
    when it leaves its terminal.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # the three standard streams
        os.set_inheritable(number, True)
    os.close(number)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
