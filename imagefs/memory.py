"""What this process does with memory, so that it holds no more after a month than after a minute.

Used by the application, on trio's thread. It handles mebibytes in many threads, and what it frees leaves holes.
"""

from __future__ import annotations

import ctypes
import gc
import math
import time
from collections.abc import Callable
from typing import Final

import trio

M_ARENA_MAX: Final = -8
"""mallopt(3): in how many places glibc's malloc keeps what was freed."""

GIVE_BACK_EVERY_S: Final = 2.0
"""It takes a millisecond where there is little to give back, and half a one for each mebibyte."""

WORTH_S: Final = 0.05
"""What has worked for less since the last time has hardly freed anything: a mount that idles is left in peace."""

MOST_COLLECTING: Final = 0.01
"""The share of its work that a process may spend looking for cycles here. With 50,000 images it takes a while."""

_LIBC: Final = ctypes.CDLL(None)


def prepare() -> None:
    """Settle how memory is handled; to be called once, when all modules are loaded.

    Threads take what others have freed. In glibc each would keep it to itself, which is a third of this process's
    peak; other libraries have no such thing. What threads get of malloc they get with the interpreter's lock, one at a
    time.

    And Python looks for cycles in all that it has as soon as there is a quarter more of it. Without modules and
    classes, which stay in any case, that is soon.
    """
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
    gc.freeze()
    gc.collect()  # has Python count anew


async def give_back(cpu_s: Callable[[], float] = time.process_time) -> None:
    """Now and then let the machine have what is not used any more, until cancelled.

    Python itself looks for cycles only when there is much more than before, and the parts of each content that was
    closed are one. By itself malloc gives back what is free at its end alone, and keeps all holes below. *cpu_s* tells
    the seconds that this process has worked.
    """
    trim = getattr(_LIBC, "malloc_trim", lambda _: None)  # glibc's
    worked_s = collect_from_s = -math.inf
    while True:
        now_s = cpu_s()
        if now_s >= worked_s + WORTH_S:
            if now_s >= collect_from_s:
                gc.collect()
                collect_from_s = now_s + (cpu_s() - now_s) / MOST_COLLECTING
            trim(0)
            worked_s = cpu_s()
        await trio.sleep(GIVE_BACK_EVERY_S)
