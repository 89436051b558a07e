"""Going on in the background, once what was asked for works."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from imagefs.errors import SetupError

_READY = b"\x06"


def run_in_background(work: Callable[[Callable[[], None]], None]) -> None:
    """Run *work* in a process of its own, and return when it calls the function that it was given.

    Must be called before this process has any thread. Raises SetupError with the message of what *work* raised before
    it was ready; what it raises later is its own business.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            answer = pipe.read()
        if answer != _READY:
            raise SetupError(
                answer.decode("utf-8", "replace") or "The mount ended without a word; see its log."
            )
        return
    os.close(reading)
    status = 1
    try:
        status = _work(work, writing)
    finally:
        os._exit(status)  # the caller's cleanup belongs to the caller


def _work(work: Callable[[Callable[[], None]], None], writing: int) -> int:
    is_ready = False

    def ready() -> None:
        nonlocal is_ready
        is_ready = True
        # Not before: an automount point lets only the process group that mounts it past (autofs in the kernel).
        os.setsid()
        _detach_from_terminal()
        os.write(writing, _READY)
        os.close(writing)

    try:
        work(ready)
    except BaseException as error:
        if is_ready:
            raise
        os.write(writing, str(error).encode("utf-8", "replace")[:4096])
        return 1
    return 0


def _detach_from_terminal() -> None:
    os.chdir("/")
    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if null > 2:  # the three that were just replaced
        os.close(null)
