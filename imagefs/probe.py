"""Touches a mounted tree, in a process of its own: ``python -m imagefs.probe PIPE ACTION OPERAND...``.

Used by the command line through :mod:`imagefs.cli.asking`. A mount that hangs can block whoever touches it, and no
signal ends that; this process can then be left behind. It loads only the standard library, and writes its findings as
lines of JSON: ``{"path": INDEX, ...}`` for each path, with ``errno`` where it failed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock, Thread
from typing import Any, Final

READERS: Final = 4
"""How many files are read side by side."""

WAITERS: Final = 64
CHUNK_BYTES: Final = 1 << 20
REPORT_BYTES: Final = 8 << 20

Found = dict[str, Any]

_writing = Lock()


def main(arguments: Sequence[str]) -> int:
    """Carry one action out; failures of single paths are findings, and no failures of the probe.

    The first argument is the number of a descriptor: a pipe from the process that asked. The probe ends with it.
    """
    pipe, action, *operands = arguments
    Thread(target=_end_with, args=(int(pipe),), daemon=True).start()
    _ACTIONS[action](*operands)
    return 0


def _end_with(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(1)


def _tell(index: int, **found: Any) -> None:
    with _writing:
        print(json.dumps({"path": index, **found}), flush=True)


def _attempt(work: Callable[[int, str], Found], index: int, path: str) -> None:
    try:
        found = work(index, path)
    except OSError as error:
        found = {"errno": error.errno}
    _tell(index, **found)


def _one_by_one(work: Callable[..., Found], name: str, *paths: str) -> None:
    for index, path in enumerate(paths):
        _attempt(partial(work, name), index, path)


def _submit(text: str, index: int, path: str) -> Found:
    """Write to a control file, report that it was accepted, and wait until the images that it asks for are active."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("utf-8", "surrogateescape"))
        _tell(index, accepted=True)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return {"done": True}


def _side_by_side(threads: int, work: Callable[[int, str], Found], *paths: str) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for index, path in enumerate(paths):
            pool.submit(_attempt, work, index, path)


def _get(name: str, _index: int, path: str) -> Found:
    return {"value": os.getxattr(path, name).decode("utf-8", "replace")}


def _link(source: str, _index: int, target: str) -> Found:
    os.link(source, target)
    return {}


def _write(text: str, _index: int, path: str) -> Found:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode("utf-8", "surrogateescape"))
    finally:
        os.close(descriptor)
    return {}


def _sync(_index: int, path: str) -> Found:
    """Wait until the image is active, as sync(1) does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return {"done": True}


def _read(index: int, path: str) -> Found:
    """Read the whole file, so that the mount checks it, and caches it as far as there is space.

    The kernel's pages of it are dropped before, as reads of these would not reach the mount, and after, to save memory.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    buffer = bytearray(CHUNK_BYTES)
    done = told = 0
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        while count := os.readv(descriptor, [buffer]):
            done += count
            if done - told >= REPORT_BYTES:
                told = done
                _tell(index, read=done)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    return {"read": done, "cached": int(os.getxattr(path, "user.imagefs.cached")), "done": True}


_ACTIONS: Final[dict[str, Callable[..., None]]] = {
    "get": partial(_one_by_one, _get),  # NAME PATH...
    "link": partial(_one_by_one, _link),  # SOURCE TARGET
    "write": partial(_one_by_one, _write),  # TEXT PATH
    "submit": partial(_one_by_one, _submit),  # TEXT PATH
    "sync": partial(_side_by_side, WAITERS, _sync),  # PATH...
    "read": partial(_side_by_side, READERS, _read),  # PATH...
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
