"""The listening socket and the connections: a thread accepts, and each connection has one of its own.

Used by the emulator's Python interface, which starts and stops it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import replace
from email.utils import formatdate
from threading import Event, Lock, Thread, current_thread
from typing import BinaryIO

from imagefs.emulator.answers import Answer, body_answer
from imagefs.emulator.http1 import BadRequest, Request, body_length, read_head
from imagefs.emulator.ledger import OpenCall
from imagefs.emulator.sending import Sender
from imagefs.emulator.site import Site
from imagefs.emulator.switches import Switches

HOST = "127.0.0.1"
JOIN_S = 5.0


class Server:
    """Serves *site* on the loopback device. *port* 0 takes a free one. *closing* is set when it stops."""

    def __init__(
        self, site: Site, switches: Switches, port: int, closing: Event, tls: ssl.SSLContext | None = None
    ) -> None:
        self._site = site
        self._switches = switches
        self._tls = tls
        self._closing = closing
        self._lock = Lock()
        self._connections: dict[Thread, socket.socket] = {}
        # Unlike socket.create_server, asks for a queue that a burst of connections does not overflow.
        self._listener = socket.create_server((HOST, port), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = Thread(target=self._accept, name="accept", daemon=True)

    def start(self) -> None:
        """Begin to accept connections."""
        self._acceptor.start()

    def stop(self) -> None:
        """Stop accepting, cut every connection and wait for its thread."""
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join(JOIN_S)
        self._listener.close()
        with self._lock:
            connections = dict(self._connections)
        for connection in connections.values():
            with contextlib.suppress(OSError):
                # The plain shutdown also for TLS, whose own would take the state from under its thread.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in connections:
            thread.join(JOIN_S)

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                # Out of descriptors, or a client that went away again; when closing, the loop ends.
                self._closing.wait(0.01)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = Thread(target=self._serve, args=(connection,), name="connection", daemon=True)
            with self._lock:
                self._connections[thread] = connection
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # An OSError means that the client went away or the handshake failed: its own matter.
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            stack.callback(self._forget)
            served = stack.enter_context(self._secured(connection))
            with self._lock:
                self._connections[current_thread()] = served
                count = len(self._connections)
            if isinstance(served, ssl.SSLSocket):
                served.do_handshake()
            limit = self._switches.max_connections
            exchanges = _Exchanges(served, self._site, self._switches, self._closing)
            exchanges.run(overloaded=limit is not None and count > limit)

    def _secured(self, connection: socket.socket) -> socket.socket:
        if self._tls is None:
            return connection
        return self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _forget(self) -> None:
        with self._lock:
            del self._connections[current_thread()]


class _Exchanges:
    """The requests and answers of one connection, one after the other."""

    def __init__(self, connection: socket.socket, site: Site, switches: Switches, closing: Event) -> None:
        self._connection = connection
        self._site = site
        self._switches = switches
        self._closing = closing
        self._sender = Sender(connection, lambda: switches.rate_bytes_per_s, closing)

    def run(self, *, overloaded: bool) -> None:
        """Answer until either side closes. Raises OSError where the client has gone."""
        with self._connection.makefile("rb") as stream:
            going_on = True
            while going_on and not self._closing.is_set():
                try:
                    request = self._read(stream)
                except BadRequest as error:
                    answer = body_answer(error.status, "text/plain", f"{error}\n".encode())
                    self._send(answer, None, keep_alive=False)
                    return
                if request is None:
                    return
                if overloaded:
                    answer = body_answer(503, "text/plain", b"Too many connections.\n")
                    self._send(answer, None, keep_alive=False)
                    return
                going_on = self._answer(request)

    def _read(self, stream: BinaryIO) -> Request | None:
        head = read_head(stream)
        if head is None:
            return None
        length = body_length(head)
        if length and head.headers.get("expect", "").lower() == "100-continue":
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = stream.read(length)
        return replace(head, body=body) if len(body) == length else None

    def _answer(self, request: Request) -> bool:
        answer, call = self._site.answer(request)
        if answer.framing == "chunked" and not request.is_http_1_1:
            answer = replace(answer, framing="close")
        if call is not None:
            self._closing.wait(self._switches.latency_s + answer.delay_s)
        return self._send(answer, call, keep_alive=request.keeps_alive, head_only=request.method == "HEAD")

    def _send(
        self, answer: Answer, call: OpenCall | None, *, keep_alive: bool, head_only: bool = False
    ) -> bool:
        date = formatdate(self._site.service_time_s(), usegmt=True)
        count = _count_nothing if call is None else call.count
        try:
            return self._sender.send(
                answer, date=date, head_only=head_only, keep_alive=keep_alive, count=count
            )
        except OSError:
            if call is not None:
                call.outcome = "aborted"
            raise


def _count_nothing(_: int) -> None:
    """Answers of the control plane and to broken requests are in no ledger."""
