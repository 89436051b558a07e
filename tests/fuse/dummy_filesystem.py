"""A filesystem of empty promises: ``python dummy_filesystem.py MOUNTPOINT`` mounts it until SIGTERM.

Whatever is done to a file named after an operation of pyfuse3 goes well, but that operation, which never ends. Each
read, copy and endless operation is a line on standard output. All other files are there, too, but those to be made.
The kernel is asked ten times a second to forget those whose names begin with "gone", which it says when it has.

After SIGUSR1, the next request is received only when a line has come on standard input. With the second argument
``descriptors``, the process has only one left when it mounts; with ``device``, it does not find that of the mount.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import stat
import sys
from pathlib import Path
from typing import Final

import trio

from imagefs.errors import NotFound, SetupError
from imagefs.fuse import interpose, pruning
from imagefs.fuse.answering import answering
from imagefs.fuse.requests import Requests
from imagefs.fuse.session import MountOptions, Session

import pyfuse3  # isort: skip  # as late as an application may

SIZE_BYTES: Final = 3 << 30
DIRECTORIES: Final = ("opendir", "readdir")
TO_BE_MADE: Final = ("create", "target", "other")


class Dummy(pyfuse3.Operations):
    """Inode numbers are places in a list of names."""

    enable_writeback_cache = False

    def __init__(self) -> None:
        super().__init__()
        self.requests = Requests(interpose.load())
        self._names = ["", "the root"]

    def _inode(self, name: str) -> pyfuse3.InodeT:
        if name not in self._names:
            self._names.append(name)
        return pyfuse3.InodeT(self._names.index(name))

    def unneeded(self) -> list[int]:
        """What the kernel is to forget."""
        return [inode for inode, name in enumerate(self._names) if name.startswith("gone")]

    async def forget(self, inode_list):
        for inode, _ in inode_list:
            if self._names[inode].startswith("gone"):
                print("forgotten", self._names[inode], flush=True)

    def _entry(self, inode: int) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(inode)
        directory = inode == pyfuse3.ROOT_INODE or self._names[inode] in DIRECTORIES
        entry.st_mode = pyfuse3.ModeT((stat.S_IFDIR if directory else stat.S_IFREG) | 0o777)
        entry.st_size = 0 if directory else SIZE_BYTES
        entry.st_blocks = entry.st_size // 512
        entry.attr_timeout = entry.entry_timeout = 0
        return entry

    async def _promise(self, operation: str, name: str) -> None:
        if operation == name:
            print(operation, flush=True)
            await trio.sleep_forever()

    @answering
    async def lookup(self, parent_inode, name, ctx):
        await self._promise("lookup", name.decode())
        if name.decode() in TO_BE_MADE and name.decode() not in self._names:
            raise NotFound("It was not made yet.")
        return self._entry(self._inode(name.decode()))

    @answering
    async def getattr(self, inode, ctx):
        await self._promise("getattr", self._names[inode])
        return self._entry(inode)

    @answering
    async def setattr(self, inode, attr, fields, fh, ctx):
        await self._promise("setattr", self._names[inode])
        return self._entry(inode)

    @answering
    async def statfs(self, ctx):
        await self._promise("statfs", "statfs")

    @answering
    async def opendir(self, inode, ctx):
        await self._promise("opendir", self._names[inode])
        return inode

    @answering
    async def readdir(self, fh, start_id, token):
        await self._promise("readdir", self._names[fh])

    @answering
    async def open(self, inode, flags, ctx):
        await self._promise("open", self._names[inode])
        return pyfuse3.FileInfo(fh=inode, direct_io=not self._names[inode].startswith("gone"))

    @answering
    async def create(self, parent_inode, name, mode, flags, ctx):
        await self._promise("create", name.decode())
        entry = self._entry(self._inode(name.decode()))
        return pyfuse3.FileInfo(fh=entry.st_ino, direct_io=True), entry

    @answering
    async def read(self, fh, off, size):
        print("read", self._names[fh], off, size, flush=True)
        await self._promise("read", self._names[fh])
        return bytes(size)

    @answering
    async def write(self, fh, off, buf):
        await self._promise("write", self._names[fh])
        return len(buf)

    @answering
    async def copy_file_range(self, inode_in, offset_in, fh_in, inode_out, offset_out, fh_out, length, *_):
        print("copy", self._names[fh_in], offset_in, self._names[fh_out], offset_out, length, flush=True)
        assert (inode_in, inode_out) == (fh_in, fh_out)
        assert self._names[fh_out] != "bug"
        await self._promise("copy_file_range", self._names[fh_out])
        return length

    @answering
    async def flush(self, fh):
        await self._promise("flush", self._names[fh])

    @answering
    async def fsync(self, fh, datasync):
        await self._promise("fsync", self._names[fh])

    @answering
    async def release(self, fh):
        pass

    @answering
    async def releasedir(self, fh):
        pass

    @answering
    async def unlink(self, parent_inode, name, ctx):
        await self._promise("unlink", name.decode())

    @answering
    async def rename(self, parent_inode_old, name_old, parent_inode_new, name_new, flags, ctx):
        await self._promise("rename", name_old.decode())

    @answering
    async def link(self, inode, new_parent_inode, new_name, ctx):
        await self._promise("link", self._names[inode])
        return self._entry(inode)

    @answering
    async def getxattr(self, inode, name, ctx):
        await self._promise("getxattr", self._names[inode])
        await trio.sleep(0.0003)
        return b""

    @answering
    async def listxattr(self, inode, ctx):
        await self._promise("listxattr", self._names[inode])
        return []


class Hesitation(trio.abc.Instrument):
    """Stands still between the announcement of a request and its reception, where SIGUSR1 asked for that."""

    def __init__(self) -> None:
        self._is_due = False
        self._is_over = trio.Event()
        self._announced = select.poll()
        signal.signal(signal.SIGUSR1, self._make_due)

    def _make_due(self, *_: object) -> None:
        links = Path("/proc/self/fd").iterdir()
        device = next(int(link.name) for link in links if os.path.realpath(link) == "/dev/fuse")
        self._announced.register(device, select.POLLIN)
        self._is_due = True
        print("next time", flush=True)

    def after_io_wait(self, timeout: float) -> None:
        if self._is_due and self._announced.poll(0):
            self._is_due = False
            print("announced", flush=True)
            sys.stdin.readline()
            self._is_over.set()

    async def tell_when_over(self) -> None:
        """Whether anything goes on after that."""
        await self._is_over.wait()
        await trio.sleep(0.01)
        print("went on", flush=True)


def _leave_one_descriptor() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.dup(sys.stdin.fileno())
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one + 1, hard))


def _fail_to_find(descriptor: int, blocking: bool) -> None:
    raise SetupError("The connection to FUSE is missing.")


async def _main(mountpoint: Path) -> None:
    hesitation = Hesitation()
    trio.lowlevel.add_instrument(hesitation)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hesitation.tell_when_over)
        await _serve(mountpoint)
        nursery.cancel_scope.cancel()


async def _serve(mountpoint: Path) -> None:
    pruning.PRUNE_EVERY_S = 0.1
    operations = Dummy()
    session = Session(MountOptions(mountpoint, source="dummy"))
    if "descriptors" in sys.argv[2:]:
        _leave_one_descriptor()
    if "device" in sys.argv[2:]:
        os.set_blocking = _fail_to_find
    session.mount(operations)
    try:
        await session.serve(operations, lambda: print("mounted", flush=True))
    finally:
        session.unmount()


if __name__ == "__main__":
    trio.run(_main, Path(sys.argv[1]))
