"""A TCP proxy between mount and service that does to connections what networks do.

Understands no more of HTTP than where a request ends and what it asks for, so that a strike can be planned for the
answer to a certain call. Each connection has two threads: one carries requests up, one carries answers down.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Final
from urllib.parse import parse_qs

CHANGES: Final = frozenset({"rename", "delete", "replicate", "fetch"})
RECEIVE_BYTES: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class Strike:
    """Something to do to the connection of one call: to its answer at ``after_bytes``, or to the request itself.

    ``action`` and ``image_id`` narrow it down, None fits all. ``seconds`` is for those that take time.
    """

    kind: str
    action: str | None = None
    image_id: str | None = None
    after_bytes: int = 0
    seconds: float = 0.0

    def fits(self, action: str, image_id: str | None) -> bool:
        """Whether it is meant for a call of *action* on *image_id*."""
        return self.action in (None, action) and self.image_id in (None, image_id)


@dataclass(slots=True)
class Exchange:
    """The call that a connection is busy with. ``position`` counts the bytes of its answer so far."""

    action: str
    image_id: str | None
    strike: Strike | None = None
    position: int = 0


class Ended(Exception):
    """A strike ended the connection."""


Effect = Callable[["Connection", bytes, Strike], bytes]
"""Does something to a connection at the planned place; takes and gives the bytes that follow. Raises Ended."""


@dataclass(slots=True, eq=False)
class Connection:
    """One connection of the mount, and the one to the service that belongs to it."""

    client: socket.socket
    service: socket.socket
    rng: random.Random
    exchange: Exchange | None = None
    closing: threading.Event = field(default_factory=threading.Event)

    def close(self, *, reset: bool = False) -> None:
        """End both sides, at once; the mount's with a reset if so wanted."""
        self.closing.set()
        with contextlib.suppress(OSError):
            if reset:
                # Goes out when the last reference is closed; a shutdown of both directions would say goodbye first.
                self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.client.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.service.shutdown(socket.SHUT_RDWR)
        self.client.close()
        self.service.close()


class Proxy:
    """Listens on a free port of the loopback device and carries everything to *service_port*."""

    def __init__(
        self, service_port: int, answering: dict[str, Effect], asking: dict[str, Effect], seed: int
    ) -> None:
        self._service_port = service_port
        self._answering = answering
        self._asking = asking
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._planned: list[Strike] = []
        self._struck: Counter[str] = Counter()
        self._lost_answers = 0
        self._connections: set[Connection] = set()
        self._listener: socket.socket | None = None
        self.port = 0

    # --- what tests and rounds use ---

    def up(self) -> None:
        """Accept connections, on the same port as before."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(1024)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="proxy", daemon=True).start()

    def down(self) -> None:
        """Refuse connections, and reset those that there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.cut_all()

    def cut_all(self) -> int:
        """Reset every connection; tells how many there were."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.close(reset=True)
        return len(connections)

    def plan(self, strike: Strike) -> None:
        """Let *strike* happen to the first call that fits."""
        with self._lock:
            self._planned.append(strike)

    def clear(self) -> None:
        """Forget the strikes that did not happen yet."""
        with self._lock:
            self._planned.clear()

    @property
    def struck(self) -> Counter[str]:
        """How often each kind happened."""
        with self._lock:
            return Counter(self._struck)

    @property
    def lost_answers(self) -> int:
        """How many changes reached the service whole, and their answers not the mount."""
        with self._lock:
            return self._lost_answers

    # --- connections ---

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="proxy up", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            service = socket.create_connection(("127.0.0.1", self._service_port), timeout=10)
        except OSError:
            client.close()
            return
        service.settimeout(None)
        service.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            connection = Connection(client, service, random.Random(self._rng.random()))
            self._connections.add(connection)
        down = threading.Thread(target=self._carry_down, args=(connection,), name="proxy down", daemon=True)
        down.start()
        try:
            self._carry_up(connection)
        except (OSError, ValueError, Ended):
            connection.close()
        finally:
            down.join(60)
            connection.close()
            with self._lock:
                self._connections.discard(connection)

    def _carry_up(self, connection: Connection) -> None:
        with connection.client.makefile("rb") as stream:
            while (request := _read_request(stream)) is not None:
                raw, action, image_id = request
                strike = self._take(action, image_id)
                connection.exchange = Exchange(action, image_id, strike)
                if strike is not None and strike.kind in self._asking:
                    self._count(strike)
                    raw = self._asking[strike.kind](connection, raw, strike)
                connection.service.sendall(raw)
            with contextlib.suppress(OSError):
                connection.service.shutdown(socket.SHUT_WR)

    def _carry_down(self, connection: Connection) -> None:
        try:
            while received := connection.service.recv(RECEIVE_BYTES):
                connection.client.sendall(self._struck_bytes(connection, received))
            connection.client.shutdown(socket.SHUT_WR)
        except Ended:
            pass
        except (OSError, ValueError):
            connection.close()

    def _struck_bytes(self, connection: Connection, received: bytes) -> bytes:
        """*received*, as a strike that happens within it leaves it."""
        exchange = connection.exchange
        if exchange is None:
            return received
        strike, start = exchange.strike, exchange.position
        exchange.position += len(received)
        if strike is None or strike.kind not in self._answering:
            return received
        if not start <= strike.after_bytes < exchange.position:
            return received
        exchange.strike = None
        self._count(strike)
        at = strike.after_bytes - start
        if at:
            connection.client.sendall(received[:at])
        try:
            return self._answering[strike.kind](connection, received[at:], strike)
        except Ended:
            if exchange.action in CHANGES:
                with self._lock:
                    self._lost_answers += 1
            raise

    def _take(self, action: str, image_id: str | None) -> Strike | None:
        with self._lock:
            for strike in self._planned:
                if strike.fits(action, image_id):
                    self._planned.remove(strike)
                    return strike
        return None

    def _count(self, strike: Strike) -> None:
        with self._lock:
            self._struck[strike.kind] += 1


def _read_request(stream: BinaryIO) -> tuple[bytes, str, str | None] | None:
    """One request as it came, with its action and the image it is about; None at the end."""
    head = b""
    length = 0
    while (line := stream.readline()) not in (b"\r\n", b"\n"):
        if not line:
            return None
        head += line
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    body = stream.read(length)
    path = head.split(b" ", 2)[1].decode("latin-1")
    action = path.strip("/").rpartition("/")[2]
    try:
        image_id = json.loads(parse_qs(body.decode("latin-1"))["req"][0]).get("image_id")
    except (KeyError, ValueError):
        image_id = None
    return head + b"\r\n" + body, action, image_id
