"""A service on this machine whose every byte a test decides, and a clock that a test moves."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from imagefs.core.models import Credentials

KEY = "".join(f"{n:02x}{chr(103 + n % 20)}" for n in range(43))[:128]
CREDENTIALS = Credentials("ABCDEFGHIJKLMNOP", KEY)


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode(), strict_parsing=True).items()}

    @property
    def parameters(self) -> dict[str, str]:
        return json.loads(self.form["req"])


Step = Callable[[socket.socket, Request], None]


class Peer:
    """Answers each request by the next step of its script; the last step stays."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.done = threading.Event()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/"

    def script(self, *steps: Step) -> None:
        self.steps = list(steps)

    def wrap(self, conn: socket.socket) -> socket.socket:
        """What a TLS peer overrides."""
        return conn

    def close(self) -> None:
        self.done.set()
        for sock in (self._listener, *self._open):
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                conn, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with (
            suppress(OSError, ValueError),
            conn,
            self.wrap(conn) as wrapped,
            wrapped.makefile("rb") as reader,
        ):
            self._open.append(wrapped)
            while not self.done.is_set() and (request := read_request(reader)) is not None:
                with self._lock:
                    self.requests.append(request)
                    step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
                step(wrapped, request)


def read_request(reader) -> Request | None:
    """The next request of a connection, or None at its end, which may also cut one short."""
    line = reader.readline()
    headers = {}
    while (header := reader.readline()) != b"\r\n":
        if not header:
            return None
        name, _, value = header.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    length = int(headers.get("content-length", 0))
    body = reader.read(length)
    return Request(line.split()[1].decode(), headers, body) if len(body) == length else None


def head(status: int = 200, **headers: object) -> bytes:
    """A status line and headers; ``Content_Length=5`` stands for ``Content-Length: 5``."""
    lines = [f"HTTP/1.1 {status} Some Reason"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answers(body: bytes | dict | list, status: int = 200, **headers: object) -> Step:
    """An answer with its length, after which the connection stays open."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return sends(head(status, **{"Content_Length": len(body), **headers}) + body)


def sends(data: bytes) -> Step:
    """These very bytes, after which the connection stays open."""
    return lambda conn, _request: conn.sendall(data)


def sends_and_closes(data: bytes) -> Step:
    """These very bytes and the end of the stream."""

    def step(conn: socket.socket, _request: Request) -> None:
        conn.sendall(data)
        conn.shutdown(socket.SHUT_RDWR)

    return step


def sends_and_resets(data: bytes = b"") -> Step:
    """These very bytes and a reset."""

    def step(conn: socket.socket, _request: Request) -> None:
        conn.sendall(data)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # The reader shares the descriptor: closing through a fresh object resets at once.
        socket.socket(fileno=conn.detach()).close()

    return step


def trickles(peer: Peer, first: bytes, then: bytes, every_s: float = 0.01) -> Step:
    """*first* at once, then one byte of *then* at a time."""

    def step(conn: socket.socket, _request: Request) -> None:
        conn.sendall(first)
        for byte in then:
            if peer.done.wait(every_s):
                return
            conn.sendall(bytes([byte]))

    return step


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n", **headers: object) -> bytes:
    """A chunked answer; *end* is its terminator."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return head(200, Transfer_Encoding="chunked", **headers) + body + end


@dataclass
class FakeClock:
    """Time that only a sleep moves."""

    now_s: float = 1_700_000_000.25
    slept_s: list[float] = field(default_factory=list)

    def time(self) -> float:
        return self.now_s

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds


@contextmanager
def serving(peer: Peer) -> Iterator[Peer]:
    """*peer*, closed at the end."""
    try:
        yield peer
    finally:
        peer.close()


def receive(body, most_bytes: int) -> bytes:
    """What has arrived of a content's *body*, at most so much; nothing at its end."""
    buffer = memoryview(bytearray(most_bytes))
    return bytes(buffer[: body.read_into(buffer)])
