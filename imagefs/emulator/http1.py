"""HTTP/1.1 requests read from a connection (RFC 9112), as small and as fast as the emulator needs.

``http.server`` parses headers with the email package, which alone costs more than a whole call here. Used
by the connection threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

MAX_LINE_BYTES = 64 << 10
MAX_HEADERS = 100
MAX_BODY_BYTES = 4 << 20


class BadRequest(Exception):
    """The request cannot be read; the connection ends after an answer with ``status``."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``headers`` have lower-case names; the last of a name counts."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    is_http_1_1: bool

    @property
    def keeps_alive(self) -> bool:
        """Whether the client would use the connection again."""
        connection = self.headers.get("connection", "").lower()
        return "close" not in connection and (self.is_http_1_1 or "keep-alive" in connection)


def read_head(stream: BinaryIO) -> Request | None:
    """The next request on *stream* without its body, or None where the client closed. Raises BadRequest."""
    line = stream.readline(MAX_LINE_BYTES)
    if not line:
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(400, "not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = stream.readline(MAX_LINE_BYTES)
        if line in (b"\r\n", b"\n"):
            return Request(words[0], words[1], headers, b"", words[2] != "HTTP/1.0")
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise BadRequest(400, "malformed header")
        headers[name.strip().lower()] = value.strip()
    raise BadRequest(431, "too many headers")


def body_length(head: Request) -> int:
    """How many bytes of body follow *head*. Raises BadRequest where that is not given, or too large."""
    if "transfer-encoding" in head.headers:
        raise BadRequest(411, "a request needs a Content-Length")
    length = head.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(400, "malformed Content-Length")
    if len(length) > 10 or int(length) > MAX_BODY_BYTES:
        raise BadRequest(413, "the request is too large")
    return int(length)
