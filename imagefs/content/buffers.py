"""Room for pieces of content that worker threads receive or read."""

from __future__ import annotations

import mmap


def large_buffer(size_bytes: int) -> memoryview:
    """A buffer of *size_bytes*, which are at least 1.

    It takes memory only where something was written to it: a transfer that waits for a silent service has next to none.
    All of it goes back to the kernel with the last view of it, where memory of malloc's would leave a hole.

    Raises:
        MemoryError: there is no room for it.

    """
    try:
        return memoryview(mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    except OSError as error:
        raise MemoryError from error
