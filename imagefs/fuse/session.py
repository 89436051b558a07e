"""One mount: from mount(2) to unmount. On trio's thread.

pyfuse3 keeps one session per process, so there is at most one :class:`Session` at a time.
"""

from __future__ import annotations

import logging
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyfuse3
import trio

from imagefs.errors import SetupError
from imagefs.fuse import interpose
from imagefs.fuse.mounts import READ_AHEAD_KB, absolute, mount_at
from imagefs.fuse.operations import Operations

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
        self._mounted = False
        logging.getLogger("pyfuse3").addFilter(_is_worth_saying)

    def mount(self, operations: Operations) -> None:
        """Mount the tree. Raises SetupError."""
        try:
            pyfuse3.init(operations, str(absolute(self._options.mountpoint)), self._options.for_fuse())
        except RuntimeError as error:
            raise SetupError(
                f"{self._options.mountpoint} could not be mounted: FUSE refused (is /dev/fuse there and usable, "
                "and fuse3 installed?)."
            ) from error
        self._mounted = True
        if not interpose.in_use():
            logger.warning(
                "Without the addition to libfuse, which was not built when imagefs was installed, copies between "
                "regions read and write every byte, and Ctrl-C may have to wait."
            )
        self._raise_read_ahead()

    async def serve(self, operations: Operations, ready: Callable[[], None]) -> None:
        """Answer the kernel until the tree is unmounted from outside or a signal asks for it."""
        async with trio.open_nursery() as nursery:
            # A signal may come as soon as others know that all is ready.
            await nursery.start(self._await_signal, nursery.cancel_scope)
            nursery.start_soon(self._await_disconnection, nursery.cancel_scope)
            nursery.start_soon(operations.requests.look_after_callers)
            with operations.requests.copying(operations.copy_file_range, nursery):
                ready()
                await pyfuse3.main(max_tasks=MAX_REQUESTS)
            nursery.cancel_scope.cancel()

    def unmount(self) -> None:
        """Unmount if still mounted. Requests that wait fail, and files that are open stop working."""
        if self._mounted:
            self._mounted = False
            pyfuse3.close(unmount=True)

    async def _await_signal(self, scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(*UNMOUNT_SIGNALS) as signals:
            task_status.started()
            async for received in signals:
                logger.info("Unmounting %s on %s.", self._options.mountpoint, signal.Signals(received).name)
                scope.cancel()

    async def _await_disconnection(self, scope: trio.CancelScope) -> None:
        """End when the tree was unmounted from outside: pyfuse3 would first wait for the requests under way.

        These are requests of processes that were killed. The kernel reports the end of a connection as POLLERR.
        """
        device = select.poll()
        device.register(_fuse_device(), 0)
        while not device.poll(0):  # noqa: ASYNC110  # the kernel has no event for it that trio could await
            await trio.sleep(DISCONNECTION_CHECK_S)
        scope.cancel()

    def _raise_read_ahead(self) -> None:
        mount = mount_at(self._options.mountpoint)
        if mount is None:
            return
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
