"""Having the kernel forget inodes that stand for nothing any more. On trio's thread; the kernel is told in another.

The kernel remembers whatever was looked up until it needs the memory: of each image that was ever seen, its inode, its
name and what was read of it; and for as long, the mount has to know the inode. Since 6.18 the kernel can be asked to
give up what nobody uses (``FUSE_NOTIFY_PRUNE`` in its include/uapi/linux/fuse.h).
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import trio

logger = logging.getLogger(__name__)

PRUNE_EVERY_S: Final = 10.0
"""How often it is asked: longer than a name is believed without asking for it again, so that nothing is asked twice."""

PRUNE: Final = 9
"""The message's number."""

MESSAGE: Final = struct.Struct("=IiQIIQ")
"""Length in bytes, number, 0; how many inode numbers follow, of 8 bytes each, 0, 0."""

MOST_INODES: Final = 1000
"""How many go into one message, which the kernel handles as a whole."""


async def prune(device: int, unneeded: Callable[[], Sequence[int]]) -> None:
    """Ask now and then, by the descriptor *device*, to forget *unneeded* inodes: until cancelled, or told it cannot be.

    Nobody may have such an inode open: the kernel then waits for no read, which this process would have to answer.
    Whoever opens it meanwhile keeps it. The thread is waited for, also when cancelled: later, the number of the
    descriptor can be another file's.
    """
    thread = trio.CapacityLimiter(1)
    with suppress(OSError):  # an older kernel: EINVAL; the mount is gone: ENODEV, EPERM
        while True:
            await trio.sleep(PRUNE_EVERY_S)
            try:
                inodes = unneeded()
                for start in range(0, len(inodes), MOST_INODES):
                    message = _message(inodes[start : start + MOST_INODES])
                    await trio.to_thread.run_sync(os.write, device, message, limiter=thread)
            except (RuntimeError, MemoryError) as error:  # there was no thread, or no memory: next time
                logger.warning("The kernel cannot be asked to forget inodes now: %r", error)


def _message(inodes: Sequence[int]) -> bytes:
    size_bytes = MESSAGE.size + 8 * len(inodes)
    return MESSAGE.pack(size_bytes, PRUNE, 0, len(inodes), 0, 0) + struct.pack(f"={len(inodes)}Q", *inodes)
