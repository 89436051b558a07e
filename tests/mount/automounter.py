"""An automounter for one mount point, as systemd is one for each automount unit: ``MOUNTPOINT COMMAND...``.

Runs *COMMAND* whenever somebody walks into the mount point, and lets them go on when it has ended. Says ``ready``
once it watches, and ends with its standard input. The process group of the automounter, and that alone, is not held
up there. Protocol: autofs-mount-control and autofs in the kernel's documentation, linux/auto_fs.h.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys

PACKET_BYTES = 304  # struct autofs_v5_packet
READY, FAILED = 0x9360, 0x9361  # AUTOFS_IOC_READY, AUTOFS_IOC_FAIL
DETACH = 2  # MNT_DETACH

libc = ctypes.CDLL(None, use_errno=True)


def serve(mountpoint: str, command: list[str]) -> None:
    """Watch *mountpoint* until standard input ends."""
    reading, writing = os.pipe()
    options = f"fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    if libc.mount(b"automounter", mountpoint.encode(), b"autofs", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        control = os.open(mountpoint, os.O_DIRECTORY | os.O_CLOEXEC)
        os.close(writing)
        print("ready", flush=True)
        while reading in select.select([reading, sys.stdin], [], [])[0]:
            (token,) = struct.unpack_from("=8xI", os.read(reading, PACKET_BYTES))
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
            fcntl.ioctl(control, READY if done.returncode == 0 else FAILED, token)
    finally:
        libc.umount2(mountpoint.encode(), DETACH)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
