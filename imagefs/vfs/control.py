"""The control file ``.fetch`` of each region: source URLs are written to it, the recent requests read from it.

Each complete line is carried out by the write that completes it, so that a mistake reaches whoever wrote it. On
trio's thread.

Each request is a task of its own, which goes on when the program leaves: a program that was only stopped repeats its
last write when it continues, and that must not make a second image.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import trio

from imagefs.account import Account
from imagefs.core.control_lines import FetchRequest, parse_line
from imagefs.core.text import printable
from imagefs.errors import ImagefsError, InvalidArgument
from imagefs.vfs.fillers import Caller, Fillers

logger = logging.getLogger(__name__)

MAX_LINE_BYTES: Final = 16 << 10
RECENT: Final = 50
"""How many requests are shown, the latest last."""

USAGE: Final = """\
# Write source URLs to this file, one a line, and its region downloads them:
#     URL [name=NAME] [format=iso|qcow2] [virtio=yes|no]
# The name is the URL's last part unless given, the format goes by its ending (.iso; .qcow2, .img as qcow2).
# Example:
#     echo https://example.org/debian-12.iso > .fetch
#
"""
"""The same in all regions: programs that keep two of them in step see that there is nothing to copy."""


@dataclass(slots=True)
class Request:
    """One line that is carried out, or could not be; ``answered`` is set as soon as ``image_id`` or ``error`` is.

    ``error`` is a copy without a traceback, whose frames would hold the account's listing of that time.
    """

    time_ns: int
    name: str = "-"
    url: str = "-"
    image_id: str | None = None
    error: ImagefsError | None = None
    answered: trio.Event = field(default_factory=trio.Event)


@dataclass(eq=False, slots=True)
class ControlHandle:
    """One open of a control file: what it shows, and what was written through it.

    ``partial`` is the text that is not carried out yet, and ``fillers`` wrote it. ``asking`` is the request whose
    answer was given to nobody yet, and ``interrupted`` the data of the last write, if a signal ended that before it was
    carried out.
    """

    region: str
    text: bytes
    partial: bytearray = field(default_factory=bytearray)
    fillers: Fillers = field(default_factory=Fillers)
    requests: list[Request] = field(default_factory=list)
    asking: Request | None = None
    interrupted: bytes | None = None

    def give_up(self) -> None:
        """The program has not repeated the write that was interrupted: drop what is left of it."""
        self.partial.clear()
        self.asking = None

    async def answer(self) -> None:
        """Wait until the request under way is carried out. Raises why it could not be."""
        request = self.asking
        if request is not None:
            await request.answered.wait()
            self.asking = None
            if request.error is not None:
                raise copy(request.error)


class ControlFiles:
    """The control files of all regions."""

    def __init__(self, account: Account, wall_ns: Callable[[], int], spawn: Callable[..., None]) -> None:
        self._account = account
        self._wall_ns = wall_ns
        self._spawn = spawn
        self._recent: dict[str, deque[Request]] = {}

    def open(self, region: str) -> ControlHandle:
        """A handle that shows the file as it is now."""
        return ControlHandle(region, self.text(region))

    def text(self, region: str) -> bytes:
        """What reading shows: comments only, so that writing it back does nothing."""
        lines = [USAGE]
        requests = self._recent.get(region, ())
        if requests:
            lines.append("# time                 id        state    name  (source)  error\n")
        lines += [self._line(request) for request in requests]
        return "".join(lines).encode("utf-8", "backslashreplace")

    def _line(self, request: Request) -> str:
        time = datetime.fromtimestamp(request.time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        image_id = request.image_id or "-"
        fields = [
            time,
            f"{image_id:9}",
            f"{printable(self._state(request)):8}",
            printable(request.name),
            f"({printable(request.url)})",
        ]
        if request.error is not None:
            fields.append(printable(str(request.error)))
        return "# " + " ".join(fields) + "\n"

    def _state(self, request: Request) -> str:
        if request.image_id is None:
            return "refused"
        image = self._account.shown(request.image_id)
        return "gone" if image is None else image.status

    async def write(self, handle: ControlHandle, data: bytes, caller: Caller | None = None) -> None:
        """Carry out the lines that *data* completes.

        After a signal the program may repeat the write, which then goes on where the first one stopped.

        Raises InvalidArgument for a line that makes no sense, or what the service answered; the lines before it
        stand, and the rest of *data* is dropped.
        """
        handle.fillers.note(caller)
        if data != handle.interrupted:
            if handle.interrupted is not None:
                handle.give_up()
            handle.partial += data
        handle.interrupted = None
        try:
            await handle.answer()
            while (newline := handle.partial.find(b"\n")) >= 0:
                line = bytes(handle.partial[:newline])
                del handle.partial[: newline + 1]
                await self._carry_out(handle, line)
        except ImagefsError:
            handle.partial.clear()
            raise
        except trio.Cancelled:
            handle.interrupted = data
            raise
        if len(handle.partial) > MAX_LINE_BYTES:
            handle.partial.clear()
            raise InvalidArgument(f"A line of .fetch has more than {MAX_LINE_BYTES} bytes.")

    async def flush(self, handle: ControlHandle, caller: Caller | None = None) -> None:
        """Carry out a last line without a newline once its writer closes the file. Raises as :meth:`write`."""
        if not handle.fillers.may_include(caller):
            return
        if handle.interrupted is None:  # else the program is gone, or will repeat its last write
            await handle.answer()
            line = bytes(handle.partial)
            handle.partial.clear()
            await self._carry_out(handle, line)

    async def wait(self, handle: ControlHandle) -> None:
        """Until every image that was asked for through *handle* is active. Raises ImageFailed or NotFound."""
        for request in handle.requests:
            if request.image_id is not None:
                await self._account.wait_active(request.image_id)

    async def _carry_out(self, handle: ControlHandle, line: bytes) -> None:
        request = Request(self._wall_ns())
        try:
            wanted = parse_line(_text_of(line))
        except ImagefsError as error:
            request.error = copy(error)
            self._show(handle.region, request)
            raise
        if wanted is None:
            return
        request.name, request.url = wanted.name, wanted.shown_url
        handle.requests.append(request)
        handle.asking = request
        self._spawn(self._ask, handle.region, wanted, request)
        await handle.answer()

    async def _ask(self, region: str, wanted: FetchRequest, request: Request) -> None:
        """Raises nothing: a bug in a task like this one would end the mount."""
        try:
            request.image_id = await self._account.fetch(wanted, region)
        except ImagefsError as error:
            request.error = copy(error)
        except Exception as bug:
            logger.exception("A bug in a request of .fetch.")
            request.error = ImagefsError(f"{wanted.name!r} could not be asked for: {bug!r}")
        finally:
            request.answered.set()
        self._show(region, request)

    def _show(self, region: str, request: Request) -> None:
        self._recent.setdefault(region, deque(maxlen=RECENT)).append(request)


def _text_of(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument("A line of .fetch is not UTF-8.") from error
