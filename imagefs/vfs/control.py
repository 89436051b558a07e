"""The control file ``.fetch`` of each region: source URLs are written to it, the recent requests read from it.

Each complete line is carried out by the write that completes it, so that a mistake reaches whoever wrote it. On
trio's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from imagefs.account import Account
from imagefs.core.control_lines import parse_line
from imagefs.errors import ImagefsError, InvalidArgument

MAX_LINE_BYTES: Final = 16 << 10
RECENT: Final = 50
"""How many requests are shown, the latest last."""

USAGE: Final = """\
# Write source URLs to this file, one a line, and {region} downloads them:
#     URL [name=NAME] [format=iso|qcow2] [virtio=yes|no]
# The name is the URL's last part unless given, the format goes by its ending (.iso; .qcow2, .img as qcow2).
# Example:
#     echo https://example.org/debian-12.iso > .fetch
#
"""


@dataclass(slots=True)
class Request:
    """One line that was carried out, or could not be."""

    time_ns: int
    name: str
    url: str
    image_id: str | None = None
    error: str | None = None


@dataclass(eq=False, slots=True)
class ControlHandle:
    """One open of a control file: what it shows, and what was written through it."""

    region: str
    text: bytes
    partial: bytearray = field(default_factory=bytearray)
    image_ids: list[str] = field(default_factory=list)


class ControlFiles:
    """The control files of all regions."""

    def __init__(self, account: Account, wall_ns: Callable[[], int]) -> None:
        self._account = account
        self._wall_ns = wall_ns
        self._recent: dict[str, deque[Request]] = {}

    def open(self, region: str) -> ControlHandle:
        """A handle that shows the file as it is now."""
        return ControlHandle(region, self.text(region))

    def text(self, region: str) -> bytes:
        """What reading shows: comments only, so that writing it back does nothing."""
        lines = [USAGE.format(region=_printable(region))]
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
            f"{_printable(self._state(request)):8}",
            _printable(request.name),
            f"({_printable(request.url)})",
        ]
        if request.error:
            fields.append(_printable(request.error))
        return "# " + " ".join(fields) + "\n"

    def _state(self, request: Request) -> str:
        if request.image_id is None:
            return "refused"
        snapshot = self._account.snapshot
        image = snapshot.by_id.get(request.image_id) if snapshot else None
        return image.status if image else "gone"

    async def write(self, handle: ControlHandle, data: bytes) -> None:
        """Carry out the lines that *data* completes.

        Raises InvalidArgument for a line that makes no sense, or what the service answered; the lines before it
        stand, and the rest of *data* is dropped.
        """
        handle.partial += data
        while (newline := handle.partial.find(b"\n")) >= 0:
            line = bytes(handle.partial[:newline])
            del handle.partial[: newline + 1]
            try:
                await self._carry_out(handle, line)
            except ImagefsError:
                handle.partial.clear()
                raise
        if len(handle.partial) > MAX_LINE_BYTES:
            handle.partial.clear()
            raise InvalidArgument(f"A line of .fetch has more than {MAX_LINE_BYTES} bytes.")

    async def flush(self, handle: ControlHandle) -> None:
        """Carry out a last line without a newline. Raises as :meth:`write`."""
        line = bytes(handle.partial)
        handle.partial.clear()
        await self._carry_out(handle, line)

    async def wait(self, handle: ControlHandle) -> None:
        """Until every image that was asked for through *handle* is active. Raises ImageFailed or NotFound."""
        for image_id in handle.image_ids:
            await self._account.wait_active(image_id)

    async def _carry_out(self, handle: ControlHandle, line: bytes) -> None:
        recent = self._recent.setdefault(handle.region, deque(maxlen=RECENT))
        entry = Request(self._wall_ns(), "-", "-")
        try:
            request = parse_line(_text_of(line))
            if request is None:
                return
            entry.name, entry.url = request.name, request.shown_url
            entry.image_id = await self._account.fetch(request, handle.region)
            handle.image_ids.append(entry.image_id)
        except ImagefsError as error:
            entry.error = str(error)
            raise
        finally:
            if entry.image_id is not None or entry.error is not None:
                recent.append(entry)


def _text_of(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidArgument("A line of .fetch is not UTF-8.") from error


def _printable(text: str) -> str:
    """*text* on one line and without escapes that a terminal would obey."""
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)
