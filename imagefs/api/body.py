"""The content of one image, or of a range of it, as it arrives.

Opened by `ServiceClient.retrieve`, read by the content room: one thread reads, any thread may abort. The service
documents neither ``Range`` nor ``Content-Length`` nor what a refusal looks like, so an answer has to prove that
it is the content before any of its bytes is handed on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from imagefs.api.clock import Clock
from imagefs.api.failures import TRANSPORT_ERRORS, is_timeout, reason_of
from imagefs.api.limits import KIB, MIB, Limits
from imagefs.api.transport import Exchange
from imagefs.api.verdicts import Verdicts
from imagefs.errors import ImagefsError, TransferBroken, TransferStalled

REFUSAL_BYTES: Final = 64 * KIB
"""A refusal is expected to be no longer: that much of a suspicious answer is read to find out."""

TEXT_REFUSAL_BYTES: Final = MIB
"""The same for an answer that starts like JSON or HTML."""

SMALL_CONTENT_BYTES: Final = 4 * KIB
"""Content this small could be a refusal of just the right length."""

LAST_WAIT_S: Final = 2.0
"""How long an answer without a length may take to end after its last byte."""

_DIGITS: Final = re.compile(r"[0-9]{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked of ``image/retrieve``. *end* is None where everything from *start* on is wanted."""

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
    def last(self) -> int:
        """The offset after the last byte that is wanted."""
        return self.size_bytes if self.end is None else self.end

    @property
    def headers(self) -> dict[str, str]:
        """The request headers that ask for it (RFC 9110, 14.2)."""
        return {"Range": f"bytes={self.start}-{self.last - 1}"} if self.ranged else {}


class ContentBody:
    """Content that is arriving: the bytes from offset *start* up to *end* of the image.

    *ranged* is True where the service honoured the range that was asked for, False where it sent everything
    instead, and None where everything was asked for.
    """

    def __init__(
        self, exchange: Exchange, wanted: Wanted, verdicts: Verdicts, clock: Clock, limits: Limits
    ) -> None:
        """Judge the answer's head.

        Raises `TransferBroken`, or the error of a refusal or an overload; *exchange* is then closed.
        """
        self.ranged: bool | None = exchange.status == 206 if wanted.ranged else None
        self.start = wanted.start if self.ranged else 0
        self.end = wanted.last if self.ranged else wanted.size_bytes
        self._subject = wanted.subject
        self._exchange = exchange
        self._verdicts = verdicts
        self._clock = clock
        self._limits = limits
        self._stall_s = wanted.stall_s
        self._lease = exchange.connection.lease
        self._aborted = False
        self._finished = False
        self._position = self.start
        self._waited_s = 0.0
        self._waited_bytes = 0
        self._held = memoryview(b"")
        try:
            self._judge_head(wanted)
        except BaseException:
            exchange.discard()
            raise

    def read_some(self, max_bytes: int) -> bytes:
        """What has arrived: at least one byte and at most *max_bytes*, or ``b""`` exactly at `end`.

        Raises `TransferBroken` where the content ends early, goes on after its end, or was aborted;
        `TransferStalled` where nothing or hardly anything arrives; the error of a refusal that came in place of
        the content. After an error the body is closed.
        """
        if max_bytes < 1:
            raise ValueError("max_bytes is at least 1")
        if self._aborted:
            raise self._stopped()
        if self._to_hold:
            self._hold_back()
        if self._held:
            piece = bytes(self._held[:max_bytes])
            self._held = self._held[len(piece) :]
        elif self._position < self.end:
            piece = self._receive(min(max_bytes, self.end - self._position), self._stall_s)
            if not piece:
                raise self._broken(
                    f"it ended after {self._position - self.start} of {self.end - self.start} bytes"
                )
        else:
            self._expect_end()
            return b""
        self._position += len(piece)
        return piece

    def abort(self) -> None:
        """Make a blocked or coming `read_some` raise `TransferBroken`. From any thread, any number of times."""
        self._aborted = True
        self._exchange.connection.interrupt(self._lease)

    def close(self) -> None:
        """Give the connection back where everything was read, else close it. By the thread that reads."""
        if not self._finished:
            self._finished = True
            self._exchange.discard()

    def _judge_head(self, wanted: Wanted) -> None:
        """Raise unless the answer's head is that of the content; decide how much of the body to hold back."""
        exchange, headers = self._exchange, self._exchange.headers
        if exchange.status == 416:
            raise self._broken(f"the service refuses the range from {wanted.start} to {wanted.last}")
        if exchange.status not in (200, 206):
            body = self._excerpt(REFUSAL_BYTES)
            error = self._verdicts.of_status(self._subject, exchange.status, headers, body)
            raise error or self._broken(f"the service answers {exchange.status} without content")
        encoding = headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise self._broken(f"it is encoded as {self._verdicts.redact(encoding)}, which was not asked for")
        if exchange.status == 206:
            self._judge_range(wanted)
        length = self._content_length()
        expected = self.end - self.start
        if length is not None and length != expected:
            raise self._refusal(self._excerpt(REFUSAL_BYTES)) or self._broken(
                f"the service announces {length} bytes in place of {expected}"
            )
        self._framed = length is not None
        if exchange.status == 206:
            self._to_hold = 0
        elif self._framed:
            self._to_hold = expected if expected <= SMALL_CONTENT_BYTES else 0
        else:
            self._to_hold = min(expected, REFUSAL_BYTES) or 1

    def _judge_range(self, wanted: Wanted) -> None:
        """A 206 must be asked for, and say that it is exactly the range that was."""
        if not wanted.ranged:
            raise self._broken("the service sends a range that was not asked for")
        value = " ".join(self._exchange.headers.get("Content-Range", "").split())
        asked = f"bytes {wanted.start}-{wanted.last - 1}/"
        if value not in (f"{asked}{wanted.size_bytes}", f"{asked}*"):
            raise self._broken(
                f"the service sends the range {self._verdicts.redact(value)!r} in place of {asked}{wanted.size_bytes}"
            )

    def _content_length(self) -> int | None:
        """The announced length, or None without one. Two ways of framing at once leave the length in doubt."""
        headers = self._exchange.headers
        length, coding = headers.get("Content-Length"), headers.get("Transfer-Encoding")
        if coding is not None and coding.strip().lower() != "chunked":
            raise self._broken("it is transfer-encoded in a way that was not asked for")
        if length is None:
            return None
        if coding is not None or not _DIGITS.fullmatch(length.strip()):
            raise self._broken("the service announces its length in a way that makes no sense")
        return int(length)

    def _hold_back(self) -> None:
        """Wait for so much of the body that it can be told from a refusal.

        With a length, that is the small body as a whole. Without one it is as much as a refusal can be long, or
        everything up to the end of the body where the content is shorter.
        """
        size_bytes = self.end - self.start
        body = bytearray()
        ended = False
        while not ended and len(body) < self._to_hold_of(body, size_bytes):
            complete = len(body) >= size_bytes
            piece = self._receive(REFUSAL_BYTES, LAST_WAIT_S if complete else self._stall_s, at_end=complete)
            body += piece
            ended = not piece
        self._to_hold = 0
        if ended or len(body) > size_bytes or size_bytes <= SMALL_CONTENT_BYTES:
            refusal = self._refusal(bytes(body))
            if refusal is not None:
                self.close()
                raise refusal
        if len(body) != size_bytes and (ended or len(body) > size_bytes):
            text = (
                f": {self._verdicts.redact(body.decode('utf-8', 'replace'))}"
                if _starts_like_text(body)
                else ""
            )
            raise self._broken(f"the service sends other bytes than the image's {size_bytes}{text}")
        self._held = memoryview(bytes(body))

    def _to_hold_of(self, body: bytearray, size_bytes: int) -> int:
        """How much to hold back, given the *body* so far."""
        if self._framed:
            return self._to_hold
        most = TEXT_REFUSAL_BYTES if _starts_like_text(body) else REFUSAL_BYTES
        return most if most < size_bytes else size_bytes + REFUSAL_BYTES

    def _expect_end(self) -> None:
        """Everything was read: let the connection go back, unless the body goes on."""
        if self._finished:
            return
        if self._receive(1, LAST_WAIT_S, at_end=True):
            raise self._broken(f"it goes on after its {self.end - self.start} bytes")
        self.close()

    def _receive(self, max_bytes: int, wait_s: float, *, at_end: bool = False) -> bytes:
        """The next bytes of the body, ``b""`` at its end. *at_end*: a body that does not end counts as ended."""
        failure: ImagefsError | None = None
        piece = b""
        began_s = self._clock.monotonic()
        try:
            self._exchange.renew(wait_s)
            piece = self._exchange.read_some(max_bytes)
        except TRANSPORT_ERRORS as exc:
            failure = None if at_end and is_timeout(exc) else self._failure(exc)
        if self._aborted:
            raise self._stopped()
        if failure is not None:
            self.close()
            raise failure
        if not at_end:
            self._watch_rate(len(piece), self._clock.monotonic() - began_s)
        return piece

    def _watch_rate(self, received_bytes: int, waited_s: float) -> None:
        """Raise `TransferStalled` where a window of waiting brought less than the least rate.

        Only the time spent in receiving counts: a reader that pauses is not the service's fault.
        """
        self._waited_s += waited_s
        self._waited_bytes += received_bytes
        if self._waited_s < self._limits.rate_window_s:
            return
        rate = self._waited_bytes / self._waited_s
        if rate < self._limits.least_rate:
            self.close()
            raise TransferStalled(f"{self._subject}: only {rate:.0f} bytes a second arrive")
        self._waited_s, self._waited_bytes = 0.0, 0

    def _failure(self, exc: Exception) -> ImagefsError:
        if is_timeout(exc):
            return TransferStalled(f"{self._subject}: nothing arrived for {self._stall_s:g} s")
        return TransferBroken(f"{self._subject}: {reason_of(exc)} after {self._position - self.start} bytes")

    def _excerpt(self, max_bytes: int) -> bytes:
        """The first bytes of an answer that is not content, as far as they arrive."""
        try:
            self._exchange.renew(LAST_WAIT_S)
            return self._exchange.read(max_bytes)
        except TRANSPORT_ERRORS:
            return b""

    def _refusal(self, body: bytes) -> ImagefsError | None:
        return self._verdicts.in_body(self._subject, body, self._exchange.headers)

    def _broken(self, reason: str) -> TransferBroken:
        self.close()
        return TransferBroken(f"{self._subject}: {reason}")

    def _stopped(self) -> TransferBroken:
        return self._broken("the transfer was stopped")


def _starts_like_text(body: bytes | bytearray) -> bool:
    """Whether *body* may be JSON or HTML."""
    return bytes(body[:KIB]).lstrip()[:1] in (b"{", b"[", b"<")
