"""Keeps a process that holds the account's key to itself."""

from __future__ import annotations

import ctypes
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""prctl(2), linux/prctl.h."""


def keep_memory_private() -> None:
    """Have no core of this process written, and let root alone look into its memory and its environment.

    The limit alone is not enough: a program that takes cores from a pipe gets them all the same (core(5)). What
    cannot be had, such as in a sandbox without prctl(2), is done without.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
