"""Keeps others out of the memory of a process that holds the account's key."""

from __future__ import annotations

import ctypes
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""prctl(2), linux/prctl.h."""


def keep_memory_private() -> None:
    """Have no core of this process written, and let only root look into its memory and its environment.

    The limit alone is not enough: a core that is piped to a program is written all the same (core(5)). Where prctl(2)
    is not available, as in some sandboxes, the process goes on without it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
