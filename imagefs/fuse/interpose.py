"""The C addition (``interpose.c``, ``reserve.c``), loaded into this process. Used by ``requests`` on trio's thread.

It sits between pyfuse3 and libfuse, and so must be loaded before pyfuse3 is: the package's ``__init__`` sees to that,
and nothing in here imports pyfuse3. Where it could not be compiled, there is none, and the mount works without.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("_interpose" + EXTENSION_SUFFIXES[0])
"""Where the build puts it."""

OnInterrupt = Callable[[int], None]
"""Takes the number of the request that was interrupted."""

OnCopy = Callable[[int, int, int, int, int, int, int, int, int, int], None]
"""Takes the request's number and address, then inode, offset and handle of the source, the same of the target, the
length, and copy_file_range(2)'s flags. The address is good for one reply."""

_INTERRUPTED = ctypes.CFUNCTYPE(None, ctypes.c_size_t)
_COPY = ctypes.CFUNCTYPE(
    None,
    ctypes.c_size_t,
    ctypes.c_size_t,
    *(ctypes.c_uint64, ctypes.c_int64, ctypes.c_uint64),
    *(ctypes.c_uint64, ctypes.c_int64, ctypes.c_uint64),
    ctypes.c_uint64,
    ctypes.c_int,
)


class Interposer:
    """The loaded library. There is one in a process, as there is one session of pyfuse3."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._current = ctypes.c_size_t.in_dll(library, "imagefs_current")
        self._thread = ctypes.c_int32.in_dll(library, "imagefs_current_thread")
        self._owner = ctypes.c_uint64.in_dll(library, "imagefs_current_owner")
        self._sessions = ctypes.c_uint.in_dll(library, "imagefs_sessions")
        self._register = library.imagefs_register
        self._register.argtypes, self._register.restype = (_INTERRUPTED, _COPY), None
        self._reply_write = library.imagefs_reply_write
        self._reply_write.argtypes = (ctypes.c_size_t, ctypes.c_uint64)
        self._reply_err = library.imagefs_reply_err
        self._reply_err.argtypes = (ctypes.c_size_t, ctypes.c_int)
        self._keep_reserve = library.imagefs_keep_reserve
        self._keep_reserve.argtypes, self._keep_reserve.restype = (), ctypes.c_bool
        self._registered: tuple[object, ...] = ()

    @property
    def sessions(self) -> int:
        """How many sessions pyfuse3 made by way of the library: none where pyfuse3 was loaded before it."""
        return int(self._sessions.value)

    def keep_reserve(self) -> bool:
        """Have small allocations of Python succeed where memory is short, in this process and from now on.

        To be called once, before there are threads. False where there is no memory for it (``reserve.c``).
        """
        return bool(self._keep_reserve())

    def register(self, on_interrupt: OnInterrupt, on_copy: OnCopy) -> None:
        """Have these called, in place of those before. They run inside libfuse and must not raise."""
        functions = _INTERRUPTED(on_interrupt), _COPY(on_copy)
        self._register(*functions)
        self._registered = functions  # C holds no reference to them

    @property
    def current_request(self) -> int:
        """The number of the request whose handler was called last, 0 once this was set to 0.

        A request's coroutine can rely on it in its first step: pyfuse3 starts it directly after the handler.
        """
        return self._current.value

    @current_request.setter
    def current_request(self, number: int) -> None:
        self._current.value = number

    @property
    def current_thread(self) -> int:
        """The thread that made this request, for as long as :attr:`current_request`; 0 where it cannot be seen."""
        return self._thread.value

    @property
    def current_owner(self) -> int:
        """The lock owner of a WRITE or FLUSH, one for each table of descriptors; 0 for any other request."""
        return self._owner.value

    def reply_copied(self, address: int, count: int) -> None:
        """Answer a copy: so many bytes were copied."""
        self._reply_write(address, count)

    def reply_error(self, address: int, number: int) -> None:
        """Answer a copy: it failed with the errno *number*."""
        self._reply_err(address, number)


@functools.cache
def load() -> Interposer | None:
    """The library, loaded by the first call; None where there is none, or none that fits this machine."""
    try:
        return Interposer(ctypes.CDLL(str(FILE), mode=ctypes.RTLD_GLOBAL))
    except OSError:
        return None


def in_use() -> bool:
    """Whether the session of pyfuse3 in this process has what the library adds."""
    library = load()
    return library is not None and library.sessions > 0
