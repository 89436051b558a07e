"""The content of one image, or of a range of it, as it arrives.

Opened by `ServiceClient.retrieve`, read by the content room: one thread reads, any thread may abort. Bytes that could
be a refusal in place of the content are held back until they are known not to be one.
"""

from __future__ import annotations

from typing import Final

from imagefs.api.clock import Clock
from imagefs.api.content_head import (
    LAST_WAIT_S,
    REFUSAL_BYTES,
    ContentHead,
    Wanted,
    judge_head,
    starts_like_text,
    text_of,
)
from imagefs.api.failures import TRANSPORT_ERRORS, is_timeout, reason_of
from imagefs.api.limits import KIB, MIB, Limits
from imagefs.api.transport import Exchange
from imagefs.api.verdicts import Verdicts
from imagefs.errors import ImagefsError, TransferBroken, TransferStalled

TEXT_REFUSAL_BYTES: Final = MIB
"""The longest refusal to expect where it starts like JSON or HTML."""

SMALL_CONTENT_BYTES: Final = 4 * KIB
"""Content this small could be a refusal of just the right length."""


class ContentBody:
    """Content that is arriving: the bytes of the image from offset *start* to before *end*.

    *ranged* is True where the service honoured the range that was asked for, False where it sent everything
    instead, and None where everything was asked for. *framed* tells whether its length was announced.
    """

    def __init__(
        self,
        exchange: Exchange,
        head: ContentHead,
        wanted: Wanted,
        *,
        verdicts: Verdicts,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self.start = head.start
        self.end = head.end
        self.ranged = head.ranged
        self.framed = head.framed
        self._exchange = exchange
        self._lease = exchange.connection.lease
        self._head = head
        self._subject = wanted.subject
        self._stall_s = wanted.stall_s
        self._verdicts = verdicts
        self._clock = clock
        self._limits = limits
        self._size_bytes = head.end - head.start
        self._position = head.start
        self._suspicious = _may_be_refusal(exchange.status, head)
        self._held = memoryview(b"")
        self._waited_s = 0.0
        self._waited_bytes = 0
        self._aborted = False
        self._closed = False

    def read_into(self, buffer: memoryview) -> int:
        """Put what has arrived at the start of *buffer*: how many bytes, at least one, or 0 exactly at `end`.

        Raises `TransferBroken` where the content ends early, goes on after its end, or was aborted;
        `TransferStalled` where nothing or hardly anything arrives; the error of a refusal that came in
        place of the content. After an error the body is closed.
        """
        if not buffer:
            raise ValueError("the buffer has room for at least one byte")
        if self._aborted:
            raise self._broken("the transfer was stopped")
        if self._suspicious:
            self._held = memoryview(self._hold_back())
            self._suspicious = False
        if self._held:
            count = min(len(self._held), len(buffer))
            buffer[:count] = self._held[:count]
            self._held = self._held[count:]
        elif self._position < self.end:
            count = self._receive(buffer[: self.end - self._position], self._stall_s)
            if not count:
                raise self._broken(
                    f"it ended after {self._position - self.start} of {self._size_bytes} bytes"
                )
        else:
            self._expect_end()
            return 0
        self._position += count
        return count

    def abort(self) -> None:
        """Make a blocked or coming `read_into` raise `TransferBroken`. Any thread, any number of times."""
        self._aborted = True
        self._exchange.connection.interrupt(self._lease)

    def close(self) -> None:
        """Close the connection, unless `read_into` returned 0 and gave it back. The reading thread."""
        if not self._closed:
            self._closed = True
            self._exchange.discard()

    def _hold_back(self) -> bytes:
        """Enough of the body to tell it from a refusal.

        With a length, that is the small body as a whole. Without one it is as much as a refusal can be
        long, or everything up to the end of the body where the content is shorter.
        """
        body = bytearray()
        piece = memoryview(bytearray(REFUSAL_BYTES))
        ended = False
        while not ended and len(body) < self._bytes_to_hold(body):
            complete = len(body) >= self._size_bytes
            count = self._receive(piece, LAST_WAIT_S if complete else self._stall_s, at_end=complete)
            body += piece[:count]
            ended = not count
        other_length = len(body) > self._size_bytes or (ended and len(body) < self._size_bytes)
        if other_length or self._size_bytes <= SMALL_CONTENT_BYTES:
            refusal = self._verdicts.in_body(self._subject, bytes(body), self._exchange.headers)
            if refusal is not None:
                self.close()
                raise refusal
        if other_length:
            raise self._broken(
                f"the service sends {len(body)} bytes in place of {self._size_bytes}"
                f"{text_of(body, self._verdicts)}"
            )
        return bytes(body)

    def _bytes_to_hold(self, body: bytearray) -> int:
        """How much to hold back, given the *body* so far."""
        if self._head.framed:
            return self._size_bytes
        most = TEXT_REFUSAL_BYTES if starts_like_text(body) else REFUSAL_BYTES
        return most if most < self._size_bytes else self._size_bytes + REFUSAL_BYTES

    def _expect_end(self) -> None:
        """Everything was read: let the connection go back, unless the body goes on."""
        if self._closed:
            return
        if self._receive(memoryview(bytearray(1)), LAST_WAIT_S, at_end=True):
            raise self._broken(f"it goes on after its {self._size_bytes} bytes")
        self.close()

    def _receive(self, buffer: memoryview, wait_s: float, *, at_end: bool = False) -> int:
        """Put the next bytes of the body into *buffer*: how many, 0 at its end.

        *at_end*: all bytes are here already, and a body that is merely not ended in time counts as ended.
        """
        failure: ImagefsError | None = None
        count = 0
        began_s = self._clock.monotonic()
        try:
            self._exchange.renew(wait_s)
            count = self._exchange.read_into(buffer)
        except TRANSPORT_ERRORS as exc:
            if not (at_end and is_timeout(exc)):
                failure = self._failure(exc)
        # An abort ends the stream as the service would: what was received then is not to be trusted.
        if self._aborted:
            raise self._broken("the transfer was stopped")
        if failure is not None:
            self.close()
            raise failure
        if not at_end:
            self._watch_rate(count, self._clock.monotonic() - began_s)
        return count

    def _watch_rate(self, received_bytes: int, waited_s: float) -> None:
        """Raise `TransferStalled` where a window of waiting brought less than the least rate.

        Only time spent in receiving counts: the service is not to blame for a reader that pauses.
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

    def _broken(self, reason: str) -> TransferBroken:
        self.close()
        return TransferBroken(f"{self._subject}: {reason}")


def open_body(
    exchange: Exchange, wanted: Wanted, *, verdicts: Verdicts, clock: Clock, limits: Limits
) -> ContentBody:
    """The body of *exchange*. Raises as `judge_head` does, and has closed *exchange* then."""
    try:
        head = judge_head(exchange, wanted, verdicts)
    except BaseException:
        exchange.discard()
        raise
    return ContentBody(exchange, head, wanted, verdicts=verdicts, clock=clock, limits=limits)


def _may_be_refusal(status: int, head: ContentHead) -> bool:
    """Whether the head leaves open that the body is a refusal."""
    # A page in place of a range is found out by its length, unless the range is smaller still.
    if status == 206:
        return not head.framed and head.end - head.start <= REFUSAL_BYTES
    return head.end - head.start <= SMALL_CONTENT_BYTES if head.framed else True
