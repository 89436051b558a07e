"""HTTP/1.1 for whoever knows an offer's address: GET and HEAD, ranges, and nothing else. On trio's thread.

The protocol is h11's. What is decided here is how long a peer may take, and how many there may be: anyone can connect.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

import h11
import trio

from imagefs.errors import SetupError, StoreError
from imagefs.publish.offer import Offer
from imagefs.publish.ranges import Span, Unsatisfiable, wanted_span

logger = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 64
HEAD_BYTES: Final = 16 << 10
HEAD_S: Final = 20.0
"""How long a connection may take for TLS and for each request's head."""

SEND_S: Final = 60.0
"""How long a chunk may take: a peer slower than about 4 KiB a second is given up."""

HANG_UP_S: Final = 2.0
"""How long a peer may go on sending after its last answer."""

RECEIVE_BYTES: Final = 16 << 10

_Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
_Headers = list[tuple[bytes, bytes]]


async def listen(
    host: str | None, port: int, tls: ssl.SSLContext | None
) -> list[trio.SocketListener | trio.SSLListener[trio.SocketStream]]:
    """Sockets that listen on *host* (None: every address of this machine) and *port*. Raises SetupError."""
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise SetupError(
            f"Nothing can be published at {host or 'any address'}, port {port}: {error.strerror or error}"
        ) from error
    if tls is None:
        return list(listeners)
    return [trio.SSLListener(listener, tls, https_compatible=True) for listener in listeners]


class ContentServer:
    """Answers requests for offers, which *find* knows by their tokens."""

    def __init__(self, find: Callable[[str], Offer | None]) -> None:
        self._find = find
        self._connections = 0

    async def serve(
        self, listeners: Sequence[trio.SocketListener | trio.SSLListener[trio.SocketStream]]
    ) -> None:
        """Go on until cancelled."""
        await trio.serve_listeners(self._serve_stream, list(listeners))

    async def _serve_stream(self, stream: _Stream) -> None:
        """One connection; raises nothing, as that would end the mount."""
        if self._connections >= MAX_CONNECTIONS:
            await trio.aclose_forcefully(stream)
            return
        self._connections += 1
        try:
            await _Connection(stream, self._find).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.ProtocolError):
            logger.debug("A download's connection broke.")
        except StoreError as error:
            logger.warning("A download of published content ends: %s", error)
        except Exception:
            logger.exception("A bug in serving published content.")
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)


class _Connection:
    """Requests that come over one connection, one after the other."""

    def __init__(self, stream: _Stream, find: Callable[[str], Offer | None]) -> None:
        self._stream = stream
        self._find = find
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)

    async def run(self) -> None:
        """Answer until either side ends the connection."""
        await self._converse()
        await self._hang_up()

    async def _converse(self) -> None:
        if isinstance(self._stream, trio.SSLStream):
            with trio.fail_after(HEAD_S):
                await self._stream.do_handshake()
        while True:
            with trio.fail_after(HEAD_S):
                request = await self._request()
            if request is None:
                return
            await self._answer(request)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _hang_up(self) -> None:
        """Let the peer read the last answer: closing while it still sends would reset the connection."""
        if isinstance(self._stream, trio.SocketStream):
            await self._stream.send_eof()
            with trio.move_on_after(HANG_UP_S):
                while await self._stream.receive_some(RECEIVE_BYTES):
                    pass

    async def _request(self) -> h11.Request | None:
        """The next request, whose body must be empty; None where there is none or it makes no sense."""
        request: h11.Request | None = None
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                await self._refuse(HTTPStatus(error.error_status_hint))
                return None
            if event is h11.NEED_DATA:
                self._http.receive_data(bytes(await self._stream.receive_some(RECEIVE_BYTES)))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.EndOfMessage):
                return request
            elif isinstance(event, h11.Data):
                await self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return None
            else:
                return None

    async def _answer(self, request: h11.Request) -> None:
        if request.method not in (b"GET", b"HEAD"):
            await self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, [(b"allow", b"GET, HEAD")])
            return
        offer = self._find(_token_of(request.target))
        if offer is None or offer.withdrawn:
            await self._refuse(HTTPStatus.NOT_FOUND)
            return
        headers = dict(request.headers)
        span = wanted_span(offer.size_bytes, offer.etag, headers.get(b"range"), headers.get(b"if-range"))
        offer.requests += 1
        offer.asked()
        if isinstance(span, Unsatisfiable):
            whole = b"bytes */%d" % offer.size_bytes
            await self._refuse(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, [(b"content-range", whole)])
            return
        with offer.download():
            await self._send(offer, span, with_body=request.method == b"GET")

    async def _send(self, offer: Offer, span: Span, *, with_body: bool) -> None:
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % (span.stop - span.start)),
            (b"accept-ranges", b"bytes"),
            (b"etag", offer.etag),
            (b"cache-control", b"no-store"),
        ]
        if span.partial:
            told = b"bytes %d-%d/%d" % (span.start, span.stop - 1, offer.size_bytes)
            headers.append((b"content-range", told))
        status = HTTPStatus.PARTIAL_CONTENT if span.partial else HTTPStatus.OK
        await self._write(h11.Response(status_code=status, headers=_dated(headers)))
        at = span.start if with_body else span.stop
        while at < span.stop:
            chunk = await offer.read(at, span.stop)
            await self._write(h11.Data(data=chunk))
            offer.sent.add(at, at + len(chunk))
            at += len(chunk)
        await self._write(h11.EndOfMessage())

    async def _refuse(self, status: HTTPStatus, headers: _Headers | None = None) -> None:
        """An answer without a body, and the end of the connection."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        told = [*(headers or []), (b"content-length", b"0"), (b"connection", b"close")]
        await self._write(h11.Response(status_code=status, headers=_dated(told)))
        await self._write(h11.EndOfMessage())

    async def _write(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        encoded = self._http.send(event)
        if encoded:
            with trio.fail_after(SEND_S):
                await self._stream.send_all(encoded)


def _dated(headers: _Headers) -> _Headers:
    return [(b"date", formatdate(usegmt=True).encode("ascii")), *headers]


def _token_of(target: bytes) -> str:
    """The segment before the last of a request's target; what a proxy in front put before it does not matter."""
    path = target.partition(b"?")[0].decode("ascii", "replace")
    segments = path.rsplit("/", 2)
    return segments[1] if len(segments) == 3 else ""
