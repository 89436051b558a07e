"""One system call, interrupted: ``python dummy_client.py CALL`` prints the name of the errno that it ends with.

The calls are made as C programs make them, since Python's own repeat a call that a signal interrupted (PEP 475).
SIGUSR1 interrupts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable
from typing import Final

libc = ctypes.CDLL(None, use_errno=True)
for function in (libc.opendir, libc.readdir):
    function.restype = ctypes.c_void_p
libc.readdir.argtypes = (ctypes.c_void_p,)
libc.pread.argtypes = libc.pwrite.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int64)

BUFFER: Final = ctypes.create_string_buffer(4096)


def _opened(name: str) -> int:
    return os.open(name, os.O_RDWR)


def _copy(target: str) -> int:
    return int(
        libc.copy_file_range(
            _opened("source"), None, _opened(target), None, ctypes.c_size_t(4096), ctypes.c_uint(0)
        )
    )


CALLS: Final[dict[str, Callable[[], int | None]]] = {
    "lookup": lambda: libc.open(b"lookup", os.O_RDONLY),
    "getattr": lambda: libc.access(b"getattr", os.F_OK) or libc.statx(-100, b"getattr", 0, 0x7FF, BUFFER),
    "setattr": lambda: libc.chmod(b"setattr", 0o600),
    "statfs": lambda: libc.statvfs(b".", BUFFER),
    "opendir": lambda: libc.opendir(b"opendir"),
    "readdir": lambda: libc.readdir(libc.opendir(b"readdir")),
    "open": lambda: libc.open(b"open", os.O_RDONLY),
    "create": lambda: libc.open(b"create", os.O_RDWR | os.O_CREAT, 0o600),
    "read": lambda: libc.pread(_opened("read"), BUFFER, 4096, 0),
    "write": lambda: libc.pwrite(_opened("write"), BUFFER, 4096, 0),
    "copy_file_range": lambda: _copy("copy_file_range"),
    "flush": lambda: libc.close(_opened("flush")),
    "fsync": lambda: libc.fsync(_opened("fsync")),
    "unlink": lambda: libc.unlink(b"unlink"),
    "rename": lambda: libc.rename(b"rename", b"other"),
    "link": lambda: libc.link(b"link", b"other"),
    "getxattr": lambda: libc.getxattr(b"getxattr", b"user.a", BUFFER, 4096),
    "listxattr": lambda: libc.listxattr(b"listxattr", BUFFER, 4096),
}
"""What interrupts each operation; each returns -1, or None for NULL, where it failed."""

EXTRA: Final[dict[str, Callable[[], int | None]]] = {"bug": lambda: _copy("bug")}


def storm() -> set[str]:
    """Thousands of short calls under a rain of signals; how they ended."""
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.siginterrupt(signal.SIGALRM, True)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    ends = set()
    file = _opened("source")
    for _ in range(3000):
        for made in (
            libc.access(b"any", os.F_OK),
            libc.pread(file, BUFFER, 4096, 0),
            _copied(file),
            libc.getxattr(b"any", b"user.a", BUFFER, 4096),
        ):
            ends.add("ok" if made >= 0 else errno.errorcode[ctypes.get_errno()])
    signal.setitimer(signal.ITIMER_REAL, 0)
    return ends


def _copied(file: int) -> int:
    there = ctypes.c_int64(8192)
    here = ctypes.c_int64(0)
    return int(
        libc.copy_file_range(
            file, ctypes.byref(here), file, ctypes.byref(there), ctypes.c_size_t(4096), ctypes.c_uint(0)
        )
    )


def main(name: str) -> None:
    """Make the call."""
    if name == "storm":
        print(*sorted(storm()))
        return
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.siginterrupt(signal.SIGUSR1, True)
    made = {**CALLS, **EXTRA}[name]()
    print(errno.errorcode[ctypes.get_errno()] if made in (-1, None) else "ok")


if __name__ == "__main__":
    main(sys.argv[1])
