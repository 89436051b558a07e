"""Answers as values: what will be sent, and how the sending ends.

Made by the site, altered by faults, sent by ``sending``. Nothing here does I/O.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

from imagefs.emulator.wire import rendered

_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileSpan:
    """The bytes of the file at *path* from *start* up to, not including, *end*."""

    path: Path
    start: int
    end: int


Segment = bytes | FileSpan


class Ending(Enum):
    """What happens to the connection where an answer is cut."""

    CLOSE = "close"
    RESET = "reset"
    STALL = "stall"
    TRICKLE = "trickle"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    ``framing`` tells the end of the body: "length", "chunked" or "close". ``announced_bytes`` is a
    Content-Length other than the true one. With ``ending`` set, the sending is cut after
    ``cut_after_bytes`` of the body, and a trickle goes on with ``trickle_bytes_per_s``. ``silent`` sends
    not even a head. ``status_line`` is sent in place of a proper one. ``delay_s`` is waited first. ``interim``
    is sent before the head: answers with a status of 1xx, which nobody asked for (RFC 9110, 15.2).
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: tuple[Segment, ...] = ()
    framing: str = "length"
    announced_bytes: int | None = None
    ending: Ending | None = None
    cut_after_bytes: int = 0
    trickle_bytes_per_s: float = 1.0
    silent: bool = False
    status_line: bytes | None = None
    delay_s: float = 0.0
    interim: bytes = b""

    @property
    def body_bytes(self) -> int:
        """The size of the whole body."""
        return sum(length_of(segment) for segment in self.body)

    def with_header(self, name: str, value: str) -> Answer:
        """This answer with that header, in the place of any of its name."""
        others = (header for header in self.headers if header[0].lower() != name.lower())
        return replace(self, headers=(*others, (name, value)))

    def without_header(self, name: str) -> Answer:
        """This answer without any header of that name."""
        return replace(
            self, headers=tuple(header for header in self.headers if header[0].lower() != name.lower())
        )


def length_of(segment: Segment) -> int:
    """The number of bytes of *segment*."""
    return len(segment) if isinstance(segment, bytes) else segment.end - segment.start


def slice_of(segment: Segment, start: int, end: int) -> Segment:
    """The bytes of *segment* from *start* up to *end*, both counted from its own start."""
    if isinstance(segment, bytes):
        return segment[start:end]
    return FileSpan(segment.path, segment.start + start, min(segment.start + end, segment.end))


def body_answer(status: int, content_type: str, body: bytes) -> Answer:
    """An answer with *body* of that type."""
    return Answer(status, (("Content-Type", content_type),), (body,))


def json_answer(payload: dict[str, Any], status: int = 200) -> Answer:
    """An answer with *payload* as JSON."""
    return body_answer(status, "application/json", rendered(payload))


def refusal_answer(text: str, status: int = 200) -> Answer:
    """The service's no, in its own form."""
    return json_answer({"success": "no", "error": text}, status)


def content_answer(path: Path, size_bytes: int, asked: str | None = None) -> Answer:
    """The file at *path*, or the part of it that the Range header *asked* asks for.

    A Range that is malformed, or asks for several parts, is ignored (RFC 9110, section 14.2); one that begins
    past the end is answered 416.
    """
    kind = ("Content-Type", "application/octet-stream")
    match = _RANGE.fullmatch(asked.strip()) if asked else None
    if match is None or not any(match.groups()) or (all(match.groups()) and int(match[2]) < int(match[1])):
        return Answer(200, (kind,), (FileSpan(path, 0, size_bytes),))
    if match[1]:
        start = int(match[1])
        end = min(int(match[2]) + 1, size_bytes) if match[2] else size_bytes
    else:
        start, end = max(0, size_bytes - int(match[2])), size_bytes
    if start >= size_bytes:
        return Answer(416, (("Content-Range", f"bytes */{size_bytes}"),))
    where = ("Content-Range", f"bytes {start}-{end - 1}/{size_bytes}")
    return Answer(206, (kind, where), (FileSpan(path, start, end),))
