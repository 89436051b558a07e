"""Keeps this process from holding more memory after a month than after a minute.

Used by the application, on trio's thread. The process handles mebibytes in many threads, and freeing them leaves holes.
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
"""The parameter of mallopt(3) that limits how many arenas glibc's malloc has."""

GIVE_BACK_EVERY_S: Final = 2.0
"""How often freed memory is given back. It takes 1 ms where there is little, and 0.5 ms for each mebibyte."""

WORTH_S: Final = 0.05
"""CPU seconds. A process that has used less since the last time has hardly freed anything: an idle mount stays idle."""

MOST_COLLECTING: Final = 0.01
"""The share of its work that a process may spend looking for cycles here. With 50,000 images it takes a while."""

_LIBC: Final = ctypes.CDLL(None)


def prepare() -> None:
    """Settle how memory is handled; to be called once, when all modules are loaded.

    With one arena, threads reuse what others have freed. In glibc each would keep it to itself, which is a third of
    this process's peak; other libraries have no arenas. Nothing is lost by that, as threads call malloc with the
    interpreter's lock, one at a time.

    Python looks for cycles in all objects as soon as there are a quarter more of them. Without modules and classes,
    which stay in any case, that is soon.
    """
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
    gc.freeze()
    gc.collect()  # makes Python count anew


async def give_back(cpu_s: Callable[[], float] = time.process_time) -> None:
    """Give memory that is not used any more back to the kernel now and then, until cancelled.

    Python itself looks for cycles only when there is much more than before, and the parts of each content that was
    closed are one. By itself malloc gives back only what is free at the end of its heap, and keeps all holes below.
    *cpu_s* tells the CPU seconds that this process has used.
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
