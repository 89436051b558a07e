"""What a proxy's strike does to a connection. Each is called on the thread that carries those bytes."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from campaign.proxy import Connection, Effect, Ended, Strike

SLOW_BYTES: Final = 300
"""So many bytes of a trickle come one by one, 10 ms apart; the rest then as fast as ever."""

INTERIM: Final = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
)


def _reset(connection: Connection, _: bytes, __: Strike) -> bytes:
    connection.close(reset=True)
    raise Ended


def _close(connection: Connection, _: bytes, __: Strike) -> bytes:
    connection.close()
    raise Ended


def _half_close(connection: Connection, _: bytes, __: Strike) -> bytes:
    """No more answers, while requests are still taken."""
    connection.client.shutdown(socket.SHUT_WR)
    raise Ended


def _silence(connection: Connection, _: bytes, strike: Strike) -> bytes:
    """Nothing more comes, and the connection stays open until the mount has had enough."""
    connection.closing.wait(strike.seconds)
    connection.close()
    raise Ended


def _stall(connection: Connection, rest: bytes, strike: Strike) -> bytes:
    connection.closing.wait(strike.seconds)
    return rest


def _trickle(connection: Connection, rest: bytes, _: Strike) -> bytes:
    for index in range(min(SLOW_BYTES, len(rest))):
        connection.client.sendall(rest[index : index + 1])
        if connection.closing.wait(0.01):
            break
    return rest[SLOW_BYTES:]


def _fragments(connection: Connection, rest: bytes, __: Strike) -> bytes:
    """The next few thousand bytes in packets of a few bytes each."""
    start = 0
    for _ in range(200):
        end = start + connection.rng.randint(1, 40)
        connection.client.sendall(rest[start:end])
        start = end
    return rest[start:]


def _interim(connection: Connection, rest: bytes, strike: Strike) -> bytes:
    """Who takes these for the answer finds the answer in place of the next one."""
    connection.client.sendall(b"".join(connection.rng.choices(INTERIM, k=connection.rng.randint(1, 3))))
    connection.closing.wait(strike.seconds)
    return rest


def _garbage(connection: Connection, rest: bytes, _: Strike) -> bytes:
    return connection.rng.randbytes(connection.rng.randint(1, 200)) + rest


def _flip(connection: Connection, rest: bytes, _: Strike) -> bytes:
    return bytes([rest[0] ^ (1 << connection.rng.randrange(8))]) + rest[1:]


def _swallow(connection: Connection, rest: bytes, _: Strike) -> bytes:
    return rest[connection.rng.randint(1, 100) :]


def _repeat(connection: Connection, rest: bytes, _: Strike) -> bytes:
    return rest[: connection.rng.randint(1, 100)] + rest


def _leftover(connection: Connection, rest: bytes, _: Strike) -> bytes:
    """The answer, and after a moment bytes that nobody asked for, unless they would be part of the next answer."""
    exchange = connection.exchange
    connection.client.sendall(rest)
    connection.closing.wait(0.05)
    if connection.exchange is not exchange:
        return b""
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def _cut_request(connection: Connection, request: bytes, _: Strike) -> bytes:
    """The service gets a part of the request only, and nobody an answer."""
    with contextlib.suppress(OSError):
        connection.service.sendall(request[: len(request) // 2])
    connection.close(reset=True)
    raise Ended


def _slow_request(connection: Connection, request: bytes, _: Strike) -> bytes:
    for index in range(0, len(request), 20):
        connection.service.sendall(request[index : index + 20])
        if connection.closing.wait(0.002):
            break
    return b""


def _lost_request(connection: Connection, _: bytes, __: Strike) -> bytes:
    """The service hears nothing at all."""
    connection.close(reset=True)
    raise Ended


ANSWERING: Final[dict[str, Effect]] = {
    "net: reset": _reset,
    "net: close": _close,
    "net: half-close": _half_close,
    "net: silence": _silence,
    "net: stall": _stall,
    "net: delay": _stall,
    "net: trickle": _trickle,
    "net: fragments": _fragments,
    "net: unasked 1xx": _interim,
    "net: garbage bytes": _garbage,
    "net: flipped bit": _flip,
    "net: swallowed bytes": _swallow,
    "net: repeated bytes": _repeat,
    "net: leftover bytes": _leftover,
}
"""Of the answer, at a byte of it."""

ASKING: Final[dict[str, Effect]] = {
    "net: request cut": _cut_request,
    "net: request slow": _slow_request,
    "net: request lost": _lost_request,
}
"""Of the request."""

AT_START: Final = frozenset({"net: unasked 1xx", "net: delay"})
"""These happen before the first byte of an answer."""

ROTTEN: Final = frozenset(
    {"net: garbage bytes", "net: flipped bit", "net: swallowed bytes", "net: repeated bytes"}
)
"""These alter bytes in a way that only the MD5 of the whole can tell."""
