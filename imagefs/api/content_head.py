"""What was asked of ``image/retrieve``, and whether the head of an answer can be that of the content.

The service documents neither ``Range`` nor ``Content-Length`` nor what a refusal looks like, so an answer has to prove
that it is the content. Its ``Content-Type`` proves nothing. Used when a content body is opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from imagefs.api.encodings import coding_of, decoded
from imagefs.api.failures import TRANSPORT_ERRORS
from imagefs.api.limits import KIB
from imagefs.api.transport import Exchange
from imagefs.api.verdicts import Verdicts
from imagefs.errors import MalformedAnswer, RangeRefused, TransferBroken

REFUSAL_BYTES: Final = 64 * KIB
"""The longest refusal to expect: this much of a suspicious answer is read to find out."""

LAST_WAIT_S: Final = 2.0
"""How long to wait for bytes that cannot be content."""

_DIGITS: Final = re.compile(r"[0-9]{1,19}", re.ASCII)
_PART: Final = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/(?:[0-9]{1,19}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for. *end* is None where everything from *start* on is wanted."""

    subject: str
    size_bytes: int
    start: int
    end: int | None
    stall_s: float

    @property
    def ranged(self) -> bool:
        """Whether a range is asked for, rather than everything."""
        return self.start > 0 or self.end is not None

    @property
    def stop(self) -> int:
        """The offset after the last byte that is wanted."""
        return self.size_bytes if self.end is None else self.end

    @property
    def headers(self) -> dict[str, str]:
        """The request headers that ask for it (RFC 9110, 14.2)."""
        return {"Range": f"bytes={self.start}-{self.stop - 1}"} if self.ranged else {}


@dataclass(frozen=True, slots=True)
class ContentHead:
    """What an answer's head promises: the bytes from *start* to before *end*.

    *framed*: the body's length was announced and is right. *ranged* is as in `ContentBody`.
    """

    start: int
    end: int
    ranged: bool | None
    framed: bool


def judge_head(exchange: Exchange, wanted: Wanted, verdicts: Verdicts) -> ContentHead:
    """What the head of *exchange* promises.

    Raises `TransferBroken` where it cannot be that of the content, `RangeRefused` where only the range is not what was
    asked for, or the error of a refusal or an overload.
    """
    if exchange.status == 416:
        kind = RangeRefused if wanted.ranged else TransferBroken
        raise kind(f"{wanted.subject}: the range from {wanted.start} to {wanted.stop} is refused")
    if exchange.status not in (200, 206):
        body = _excerpt(exchange, wanted)
        error = verdicts.of_status(wanted.subject, exchange.status, exchange.headers, body)
        raise error or TransferBroken(
            f"{wanted.subject}: the service answers {exchange.status} without content"
        )
    coding = coding_of(exchange.headers)
    if coding:
        body = _excerpt(exchange, wanted)
        raise verdicts.in_body(wanted.subject, body, exchange.headers) or TransferBroken(
            f"{wanted.subject}: it is encoded as {verdicts.redact(coding)}, which was not asked for"
        )
    start, end = 0, wanted.size_bytes
    if exchange.status == 206:
        _judge_range(exchange, wanted, verdicts)
        start, end = wanted.start, wanted.stop
    length = _announced_bytes(exchange, wanted)
    if length is not None and length != end - start:
        body = _excerpt(exchange, wanted)
        raise verdicts.in_body(wanted.subject, body, exchange.headers) or TransferBroken(
            f"{wanted.subject}: the service announces {length} bytes in place of {end - start}"
            f"{text_of(body, verdicts)}"
        )
    ranged = exchange.status == 206 if wanted.ranged else None
    return ContentHead(start, end, ranged, framed=length is not None)


def starts_like_text(body: bytes | bytearray) -> bool:
    """Whether *body* may be JSON or HTML."""
    return bytes(body[:KIB]).lstrip()[:1] in (b"{", b"[", b"<")


def text_of(body: bytes | bytearray, verdicts: Verdicts) -> str:
    """What *body* says, for the end of a message, if it is text."""
    if not starts_like_text(body):
        return ""
    return f": {verdicts.redact(body[: 4 * KIB].decode('utf-8', 'replace'))}"


def _judge_range(exchange: Exchange, wanted: Wanted, verdicts: Verdicts) -> None:
    """A 206 must be asked for, and say that it is exactly the range that was (RFC 9110, 14.4)."""
    if not wanted.ranged:
        raise TransferBroken(f"{wanted.subject}: the service sends a range that was not asked for")
    value = exchange.headers.get("Content-Range", "").strip()
    asked = f"bytes {wanted.start}-{wanted.stop - 1}/"
    if value not in (f"{asked}{wanted.size_bytes}", f"{asked}*"):
        shown = verdicts.redact(value) or "an unknown range"
        kind = RangeRefused if _is_first_part(value, wanted) else TransferBroken
        raise kind(f"{wanted.subject}: {shown} is sent in place of {asked}{wanted.size_bytes}")


def _is_first_part(content_range: str, wanted: Wanted) -> bool:
    """Whether only the first part of the range is sent, as RFC 9110, 15.3.7, allows."""
    part = _PART.fullmatch(content_range)
    return part is not None and int(part[1]) == wanted.start <= int(part[2]) < wanted.stop - 1


def _announced_bytes(exchange: Exchange, wanted: Wanted) -> int | None:
    """The announced length, or None. Raises `TransferBroken` for two framings at once, which leave it in doubt."""
    length = exchange.headers.get("Content-Length")
    coding = exchange.headers.get("Transfer-Encoding")
    if coding is not None and (length is not None or coding.strip().lower() != "chunked"):
        raise TransferBroken(f"{wanted.subject}: the service encodes the transfer in a way not asked for")
    if length is None:
        return None
    if not _DIGITS.fullmatch(length.strip()):
        raise TransferBroken(f"{wanted.subject}: the service announces a length that makes no sense")
    return int(length)


def _excerpt(exchange: Exchange, wanted: Wanted) -> bytes:
    """The first bytes of an answer that is not content, as far as they arrive."""
    try:
        exchange.renew(min(LAST_WAIT_S, wanted.stall_s))
        return decoded(exchange.read(REFUSAL_BYTES), exchange.headers, REFUSAL_BYTES)
    except (*TRANSPORT_ERRORS, MalformedAnswer):
        return b""
