"""Sockets whose timeout is a budget for everything that follows, not for each receive.

A peer that sends one byte a minute never trips an ordinary socket timeout. Here ``settimeout(s)`` starts a
span of *s* seconds which all later operations share, so that the timeouts which urllib3 sets (for
connecting, then for the answer) bound the whole of connecting and the whole of an answer's headers and
body.

Used by the transport only, on the thread that makes a call; a socket is not shared between threads while in
use.
"""

from __future__ import annotations

import contextlib
import io
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _SocketBase = socket.socket
else:
    _SocketBase = object

_LEAST_TIMEOUT_S = 0.001
"""Handed on where a budget is used up: 0 would mean non-blocking mode."""

AddressInfo = tuple[int, int, int, str, Any]
Resolver = Callable[..., list[Any]]


class _Budgeted(_SocketBase):
    """The budget, for plain and TLS sockets alike."""

    _expires_s: float | None = None
    _resting = False

    surplus = False
    """Whether more has arrived than the answers that were read: what comes next cannot be trusted as an answer."""

    def makefile(self, mode: str = "r", *args: Any, **options: Any) -> Any:
        """As any socket's; but one that http.client reads an answer from ("rb") reports surplus when it is closed."""
        if mode != "rb" or args or options:
            return super().makefile(mode, *args, **options)  # type: ignore[call-overload]
        return _AnswerReader(super().makefile("rb", buffering=0), self)

    def note_surplus(self, reader: io.BufferedReader) -> None:
        """Note whether *reader*, whose answer ends here, has received more; receives nothing itself."""
        self._resting = True
        try:
            self.surplus |= bool(reader.peek(1))
        except OSError:
            pass  # it would have had to receive
        finally:
            self._resting = False

    def settimeout(self, value: float | None) -> None:
        """Let all operations from now on share *value* seconds; None lifts the bound."""
        self._expires_s = None if value is None else time.monotonic() + value
        super().settimeout(value)

    def gettimeout(self) -> float | None:
        """The seconds that are left; `ssl` asks for it to bound the handshake."""
        if self._expires_s is None:
            return super().gettimeout()
        return max(self._expires_s - time.monotonic(), _LEAST_TIMEOUT_S)

    def _arm(self) -> None:
        """Give the coming operation what is left of the budget."""
        if self._resting:
            raise TimeoutError("nothing is awaited")
        if self._expires_s is None:
            return
        left_s = self._expires_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        super().settimeout(left_s)

    def recv(self, *args: Any) -> bytes:
        self._arm()
        return super().recv(*args)

    def recv_into(self, *args: Any) -> int:
        self._arm()
        return super().recv_into(*args)

    def send(self, *args: Any) -> int:
        self._arm()
        return super().send(*args)

    def sendall(self, *args: Any) -> None:
        self._arm()
        super().sendall(*args)


class _AnswerReader(io.BufferedReader):
    """Reads one answer. Bytes that it has received past the end of that are lost with it, so it tells its socket."""

    def __init__(self, raw: io.RawIOBase, wire: _Budgeted) -> None:
        super().__init__(raw)
        self._wire = wire

    def readinto(self, buffer: Any) -> int:
        """As ``readinto1``: filling a buffer means to receive once, and not to wait for more."""
        return super().readinto1(buffer)

    def close(self) -> None:
        if not self.closed:
            self._wire.note_surplus(self)
        super().close()


class BudgetSocket(_Budgeted, socket.socket):
    """A plain socket with a budget."""


class BudgetTlsSocket(_Budgeted, ssl.SSLSocket):
    """A TLS socket with a budget; made by an `ssl.SSLContext` whose ``sslsocket_class`` it is."""


def shut_down(sock: socket.socket) -> None:
    """Wake whatever thread is blocked on *sock*; it then sees the end of the stream or an error.

    Goes past `ssl.SSLSocket.shutdown`, which would take the TLS state away from the reader: its next receive
    would return ciphertext.
    """
    inner = getattr(sock, "socket", sock)  # TLS within TLS, by way of a proxy, wraps its socket
    with contextlib.suppress(OSError):
        socket.socket.shutdown(inner, socket.SHUT_RDWR)


def dial(
    host: str,
    port: int,
    timeout_s: float,
    options: Iterable[tuple[Any, ...]] = (),
    resolver: Resolver = socket.getaddrinfo,
) -> BudgetSocket:
    """A connection to *host*, whose addresses are tried in turn, all of it within *timeout_s*.

    Each gets an equal share of the time that is left, so that a silent one does not keep the next from being tried. The
    time left in the end becomes the socket's budget. Raises `socket.gaierror` where the name is not known,
    `TimeoutError`, or the `OSError` of the last address.
    """
    expires_s = time.monotonic() + timeout_s
    failure: OSError = OSError(f"{host} has no address")
    addresses = _resolve(host, port, timeout_s, resolver)
    for tried, (family, kind, protocol, _name, address) in enumerate(addresses):
        left_s = expires_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        with contextlib.ExitStack() as closing:
            try:
                sock = closing.enter_context(BudgetSocket(family, kind, protocol))
                for option in options:
                    sock.setsockopt(*option)
                sock.settimeout(left_s / (len(addresses) - tried))
                sock.connect(address)
            except OSError as exc:
                failure = exc
                continue
            sock.settimeout(max(expires_s - time.monotonic(), _LEAST_TIMEOUT_S))
            closing.pop_all()
            return sock
    raise failure


def _resolve(host: str, port: int, timeout_s: float, resolver: Resolver) -> list[AddressInfo]:
    """The addresses of *host*, looked up on a thread of its own, since ``getaddrinfo`` knows no timeout."""
    answers: queue.SimpleQueue[list[AddressInfo] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(resolver(host, port, 0, socket.SOCK_STREAM))
        except (OSError, UnicodeError) as exc:
            answers.put(exc)

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError("the name lookup timed out") from None
    if isinstance(answer, UnicodeError):
        raise socket.gaierror(socket.EAI_NONAME, "the host name is malformed")
    if isinstance(answer, Exception):
        raise answer
    return answer
