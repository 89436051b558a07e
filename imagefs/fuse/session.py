"""One mount: from mount(2) to unmount. On trio's thread.

pyfuse3 keeps one session per process, so there is at most one :class:`Session` at a time.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import pyfuse3
import trio

from imagefs.errors import SetupError
from imagefs.fuse import interpose
from imagefs.fuse.mountpoint import already_mounted, unmount
from imagefs.fuse.mounts import FILESYSTEM_TYPE, READ_AHEAD_KB, Mount, absolute, mount_at
from imagefs.fuse.operations import Operations
from imagefs.fuse.pruning import prune

logger = logging.getLogger(__name__)

MAX_REQUESTS: Final = 1000
"""How many requests may wait at once. Each costs a task; with too few, waiting reads would hold up listings."""

DISCONNECTION_CHECK_S: Final = 1.0
"""How often to look whether there is still a mount to serve."""

UNMOUNT_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class MountOptions:
    """How to mount; ``source`` is what df shows in its first column."""

    mountpoint: Path
    source: str
    read_only: bool = False
    allow_other: bool = False

    def for_fuse(self) -> set[str]:
        """As libfuse takes them. Commas would start another option, so they are taken out."""
        options = {f"fsname={self.source.replace(',', '_')}", "subtype=imagefs"}
        if self.read_only:
            options.add("ro")
        if self.allow_other:
            options |= {"allow_other", "default_permissions"}
        return options


class Session:
    """Mounts *operations*, serves the kernel, unmounts."""

    def __init__(self, options: MountOptions) -> None:
        self._options = options
        self._mountpoint = absolute(options.mountpoint)
        self._mounted = False
        self._device: str | None = None
        self._serving = trio.CancelScope()
        logging.getLogger("pyfuse3").addFilter(_is_worth_saying)

    def mount(self, operations: Operations) -> None:
        """Mount the tree; from here to the end of the process, signals ask for nothing but the unmount.

        Raises SetupError, also where another mount has come between, which this one would hide.
        """
        there = mount_at(self._mountpoint)
        if there is not None and there.filesystem_type == FILESYSTEM_TYPE:
            raise already_mounted(self._options.mountpoint)
        self._heed_signals()
        try:
            pyfuse3.init(operations, str(self._mountpoint), self._options.for_fuse())
        except RuntimeError as error:
            raise SetupError(
                f"{self._options.mountpoint} could not be mounted: FUSE refused (is /dev/fuse there and usable, "
                "and fuse3 installed?)."
            ) from error
        self._mounted = True
        try:
            self._set_up()
        except BaseException:
            self.unmount()
            raise

    def _set_up(self) -> None:
        """What is to be done once the kernel has mounted the tree."""
        if interpose.in_use():
            os.set_blocking(_fuse_device(), False)  # interpose.c says why
        else:
            logger.warning(
                "Without the addition to libfuse, which was not built when imagefs was installed, copies between "
                "regions read and write every byte, and Ctrl-C may have to wait."
            )
        mount = mount_at(self._mountpoint)
        if mount is not None:
            self._device = mount.device
            self._raise_read_ahead(mount)

    async def serve(self, operations: Operations, ready: Callable[[], None]) -> None:
        """Answer the kernel until the tree is unmounted from outside or a signal asks for it."""
        device = _fuse_device()
        with self._serving:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._await_disconnection, device)
                nursery.start_soon(operations.requests.look_after_callers)
                nursery.start_soon(prune, device, operations.unneeded)
                with operations.requests.copying(operations.copy_file_range, nursery):
                    ready()
                    await pyfuse3.main(max_tasks=MAX_REQUESTS)
                self._serving.cancel()

    def unmount(self) -> None:
        """Unmount if still mounted. Requests that wait fail, and files that are open stop working."""
        if self._mounted:
            self._mounted = False
            pyfuse3.close(unmount=self._is_there())
            if self._device is not None and self._is_there() and _is_dead(self._mountpoint):
                with suppress(SetupError, OSError):  # libfuse leaves one whose connection was cut
                    unmount(self._mountpoint, lazy=True)

    def _is_there(self) -> bool:
        """Whether the mount point leads to this mount, as libfuse unmounts whatever it finds there.

        After a lazy unmount that can be another one. Before this one could be set up, it is taken for it.
        """
        try:
            mount = mount_at(self._mountpoint)
        except OSError:
            return True  # no descriptor is left for a look
        return self._device is None or (mount is not None and mount.device == self._device)

    def _heed_signals(self) -> None:
        """Have signals end the serving, and never the process: a terminal that is closed sends two at once."""
        token = trio.lowlevel.current_trio_token()

        def heed(number: int, _frame: FrameType | None) -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(self._end, number)

        for number in UNMOUNT_SIGNALS:
            signal.signal(number, heed)

    def _end(self, number: int) -> None:
        if not self._serving.cancel_called:
            logger.info("Unmounting %s on %s.", self._options.mountpoint, signal.Signals(number).name)
            self._serving.cancel()

    async def _await_disconnection(self, device: int) -> None:
        """End when the tree was unmounted from outside: pyfuse3 would first wait for the requests under way.

        These are requests of processes that were killed. The kernel reports the end of a connection as POLLERR.
        """
        connection = select.poll()
        connection.register(device, 0)
        while not connection.poll(0):  # noqa: ASYNC110  # the kernel has no event for it that trio could await
            await trio.sleep(DISCONNECTION_CHECK_S)
        self._serving.cancel()

    def _raise_read_ahead(self, mount: Mount) -> None:
        knob = mount.read_ahead_knob
        try:
            knob.write_text(f"{READ_AHEAD_KB}\n")
        except OSError as error:
            logger.info(
                "Reading would be faster after, as root: echo %d > %s (%s)",
                READ_AHEAD_KB,
                knob,
                error.strerror,
            )


def _is_dead(mountpoint: Path) -> bool:
    """Whether no process is behind the mount: a new one may have got the number of one that is gone."""
    try:
        os.statvfs(mountpoint)  # which the kernel never answers by itself
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def _fuse_device() -> int:
    """The descriptor that connects this process with the kernel's side of the mount; pyfuse3 keeps it to itself."""
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own descriptor is gone by now
            if link.readlink() == Path("/dev/fuse"):
                return int(link.name)
    raise SetupError("The connection to FUSE is missing.")


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """False for pyfuse3's complaint that a reply came too late.

    The kernel knows the request no more (ENOENT): its process was killed, or the tree unmounted meanwhile.
    """
    return "fuse_reply_* failed with No such file" not in record.getMessage()
