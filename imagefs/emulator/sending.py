"""Answers put on a socket, at a rate, with real faults of the network where the answer says so.

Each connection thread has one ``Sender``. Contents go out by ``sendfile``, so that a fast client is limited
by the loopback device rather than by Python.
"""

from __future__ import annotations

import fcntl
import os
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import responses
from pathlib import Path
from threading import Event
from typing import BinaryIO

from imagefs.emulator.answers import Answer, Ending, Segment, length_of, slice_of

STEP_BYTES = 1 << 20
STEPS_PER_SECOND = 50
DRAIN_S = 5.0


@dataclass(slots=True)
class Sender:
    """Sends answers on *sock*.

    *rate* tells the bytes a second that are allowed now, None for no limit. *closing* is set when the server
    stops, and ends every wait.
    """

    sock: socket.socket
    rate: Callable[[], float | None]
    closing: Event
    _due_s: float = field(default=0.0, init=False)

    def send(
        self, answer: Answer, *, date: str, head_only: bool, keep_alive: bool, count: Callable[[int], None]
    ) -> bool:
        """Send *answer*, calling *count* with each number of body bytes before they go out.

        Tells whether the connection can be used again. Raises OSError where the client has gone.
        """
        keep_alive = keep_alive and answer.framing != "close" and answer.ending is None
        if answer.silent:
            self._end(answer.ending)
            return False
        head = answer.interim + head_of(answer, date=date, keep_alive=keep_alive)
        if head_only:
            self.sock.sendall(head)
            return keep_alive
        if _is_small(answer) and self.rate() is None:
            body = b"".join(segment for segment in answer.body if isinstance(segment, bytes))
            count(len(body))
            self.sock.sendall(head + body)
            return keep_alive
        self.sock.sendall(head)
        self._send_body(answer, count)
        return keep_alive and answer.announced_bytes is None

    def _send_body(self, answer: Answer, count: Callable[[int], None]) -> None:
        chunked = answer.framing == "chunked"
        cut_at = answer.cut_after_bytes if answer.ending else None
        with ExitStack() as files:
            opened: dict[Path, BinaryIO] = {}
            for piece in self._pieces(answer, cut_at):
                if not isinstance(piece, bytes) and piece.path not in opened:
                    opened[piece.path] = files.enter_context(piece.path.open("rb"))
                count(length_of(piece))
                if chunked:
                    self.sock.sendall(b"%x\r\n" % length_of(piece))
                self._send_piece(piece, opened)
                if chunked:
                    self.sock.sendall(b"\r\n")
        if answer.ending and answer.ending is not Ending.TRICKLE:
            self._end(answer.ending)
        elif chunked:
            self.sock.sendall(b"0\r\n\r\n")

    def _pieces(self, answer: Answer, cut_at: int | None) -> Iterator[Segment]:
        """The body in steps, each yielded when its time has come; a trickle slows down at the cut."""
        position = 0
        for segment in answer.body:
            start = 0
            while start < length_of(segment):
                if self.closing.is_set():
                    # Not a return: the last chunk would make what was sent look complete.
                    raise ConnectionAbortedError("the emulator stops")
                rate = self.rate()
                trickling = answer.ending is Ending.TRICKLE and position >= answer.cut_after_bytes
                if trickling:
                    rate = answer.trickle_bytes_per_s
                step = STEP_BYTES if rate is None else max(1, min(STEP_BYTES, int(rate / STEPS_PER_SECOND)))
                if cut_at is not None and not trickling:
                    step = min(step, cut_at - position)
                if step == 0:
                    return
                piece = slice_of(segment, start, start + step)
                self._wait_for_turn(length_of(piece), rate)
                yield piece
                start += length_of(piece)
                position += length_of(piece)

    def _wait_for_turn(self, step_bytes: int, rate: float | None) -> None:
        if rate is None:
            return
        now_s = time.monotonic()
        if self._due_s > now_s:
            self.closing.wait(self._due_s - now_s)
        self._due_s = max(self._due_s, now_s) + step_bytes / rate

    def _send_piece(self, piece: Segment, opened: dict[Path, BinaryIO]) -> None:
        if isinstance(piece, bytes):
            self.sock.sendall(piece)
            return
        file_fd = opened[piece.path].fileno()
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.sendall(os.pread(file_fd, length_of(piece), piece.start))
            return
        position = piece.start
        while position < piece.end:
            sent = os.sendfile(self.sock.fileno(), file_fd, position, piece.end - position)
            if sent == 0:
                raise OSError(f"{piece.path} is shorter than {piece.end} bytes")
            position += sent

    def _end(self, ending: Ending | None) -> None:
        if ending is Ending.STALL:
            while self.sock.recv(4096):  # returns nothing once the client or the server closes
                pass
        elif ending is Ending.RESET:
            self._drain()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _drain(self) -> None:
        """Wait until the client's side has all that was sent: a reset throws away the rest."""
        give_up_s = time.monotonic() + DRAIN_S
        while time.monotonic() < give_up_s and not self.closing.is_set():
            queued = fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
            if queued == b"\0" * 4:
                return
            self.closing.wait(0.001)


def head_of(answer: Answer, *, date: str, keep_alive: bool) -> bytes:
    """The status line and headers of *answer*."""
    status_line = (
        answer.status_line or f"HTTP/1.1 {answer.status} {responses.get(answer.status, 'Unknown')}".encode()
    )
    headers = [("Date", date), ("Server", "imagefs-emulator"), *answer.headers]
    if answer.framing == "chunked":
        headers.append(("Transfer-Encoding", "chunked"))
    elif answer.framing == "length":
        length = answer.body_bytes if answer.announced_bytes is None else answer.announced_bytes
        headers.append(("Content-Length", str(length)))
    if not keep_alive:
        headers.append(("Connection", "close"))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return status_line + b"\r\n" + lines.encode("latin-1") + b"\r\n"


def _is_small(answer: Answer) -> bool:
    return (
        answer.framing == "length"
        and answer.ending is None
        and all(isinstance(segment, bytes) for segment in answer.body)
    )
