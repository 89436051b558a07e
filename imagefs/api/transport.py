"""One signed POST to the service and its answer: pooled connections, proxies, TLS, deadlines.

It uses requests' adapter without a session: a session brings cookies, netrc, redirects and a look at the environment
for each call, and signed calls want none of these. The adapter's pools may be used from any number of threads at once.
Used by the client.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import requests.adapters
import requests.utils
from urllib3 import PoolManager, Timeout
from urllib3.response import BaseHTTPResponse
from urllib3.util.ssl_ import create_urllib3_context

from imagefs.api.answer_head import AnswerHead
from imagefs.api.connections import PlainConnection, PlainPool, TlsConnection, TlsPool
from imagefs.api.limits import KIB
from imagefs.api.sockets import BudgetTlsSocket
from imagefs.api.stopping import Stop, current_stop
from imagefs.errors import SetupError

PIECE_BYTES: Final = 256 * KIB
"""How much of an answer is received at once."""


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter, with our connections and one TLS context for all of them."""

    def __init__(self, tls: ssl.SSLContext, connections: int) -> None:
        self._tls = tls
        super().__init__(pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        _use_our_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._tls, **kwargs)
        _use_our_pools(manager)
        return manager

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the context has the certificates, and loading them for each call would cost 20 ms."""


def _use_our_pools(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}


@dataclass(frozen=True, slots=True)
class Exchange:
    """An answer whose head has arrived, but not its body.

    *raw* is urllib3's response, *inner* that of http.client below it.
    """

    status: int
    headers: Mapping[str, str]
    raw: BaseHTTPResponse
    inner: AnswerHead
    connection: PlainConnection | TlsConnection

    @property
    def framed(self) -> bool:
        """Whether the answer says where its body ends, so that a cut one is noticed."""
        return "Content-Length" in self.headers or "Transfer-Encoding" in self.headers

    def renew(self, budget_s: float) -> None:
        """Give all that is received from now on a budget of *budget_s* seconds.

        Does nothing once the body was read to its end: its connection has gone back, and may be another call's by now.
        """
        if self.connection.wire is not None and not self.raw.closed:
            self.connection.wire.settimeout(budget_s)

    def read(self, max_bytes: int) -> bytes:
        """The body, or its first *max_bytes* and little more. Raises one of `TRANSPORT_ERRORS`.

        Piece by piece as it arrives: one large read allocates all of it first, and where a chunk has a negative size
        http.client reads on to the end of the stream.
        """
        body = bytearray()
        while len(body) < max_bytes:
            piece = self.raw.read1(min(max_bytes - len(body), PIECE_BYTES), decode_content=False)
            if not piece:
                break
            body += piece
        return bytes(body)

    def read_into(self, buffer: memoryview) -> int:
        """Put what has arrived at the start of *buffer*: how many bytes, 0 at the end of the body.

        Bypasses urllib3, which always copies, unless that is needed: to decode chunks, and to give the connection back
        at the end. Raises one of `TRANSPORT_ERRORS`.
        """
        if self.inner.isclosed() or self.inner.chunked:
            piece = self.raw.read1(len(buffer), decode_content=False) or b""
            buffer[: len(piece)] = piece
            return len(piece)
        count = self.inner.readinto(buffer)
        if self.raw.length_remaining is not None:
            self.raw.length_remaining -= count
        return count

    def discard(self) -> None:
        """Close the connection; whatever of the body was not read is lost."""
        self.raw.close()
        self.raw.release_conn()


class Transport:
    """Sends signed forms to one service. Any thread, several at once."""

    def __init__(self, base_url: str, user_agent: str, connections: int) -> None:
        """Looks up proxies (``HTTPS_PROXY``, ``NO_PROXY``, ...) and the certificates to trust, once.

        Raises `SetupError` for a proxy of a kind that is not supported, or certificates that cannot be read.
        """
        _silence()
        self._base_url = base_url
        self.host: str = urlsplit(base_url).hostname or ""
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "*/*",
            # Content must arrive as it is stored: lengths and ranges are those of the image.
            "Accept-Encoding": "identity",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        # Plain http is only used to this machine: no proxy may see it.
        self._proxies = proxies_for(base_url) if base_url.startswith("https:") else {}
        self._adapter = _Adapter(tls_context(), connections)

    def post(
        self,
        path: str,
        form: bytes,
        *,
        connect_s: float,
        total_s: float,
        headers: Mapping[str, str],
        stop: Stop | None = None,
    ) -> Exchange:
        """Send *form* to *path* and wait for the head of the answer.

        Connecting takes at most *connect_s*; the answer's head and, unless the budget is renewed, its body
        arrive within *total_s*, unless *stop* is set before. Raises `ConnectError` where nothing was sent,
        else one of `TRANSPORT_ERRORS`.
        """
        request = requests.Request(
            "POST", self._base_url + path, headers={**self._headers, **headers}, data=form
        ).prepare()
        before = current_stop.set(stop)
        try:
            response = self._adapter.send(
                request,
                stream=True,
                timeout=Timeout(connect=connect_s, total=total_s),  # type: ignore[arg-type]  # urllib3's too
                proxies=self._proxies,
            )
        finally:
            current_stop.reset(before)
        raw = response.raw
        connection = raw.connection
        assert isinstance(connection, PlainConnection | TlsConnection)
        assert connection.answer is not None
        return Exchange(raw.status, raw.headers, raw, connection.answer, connection)

    def close(self) -> None:
        """Close the connections that no one uses."""
        self._adapter.close()


def _silence() -> None:
    """Keep urllib3 from logging: it quotes parts of answers, which may repeat what was signed and sent."""
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "urllib3":
            logging.getLogger(name).disabled = True


def proxies_for(url: str) -> dict[str, str]:
    """The proxies that the environment names for *url*, in requests' form."""
    proxies = requests.utils.get_environ_proxies(url)
    for proxy in filter(None, (proxies.get("https"), proxies.get("all"))):
        scheme = urlsplit(proxy).scheme.lower() if "://" in proxy else "http"
        if scheme not in ("http", "https"):
            raise SetupError(
                f"the environment names a {scheme} proxy; only http and https proxies are supported"
            )
    return proxies


def tls_context() -> ssl.SSLContext:
    """The one TLS context: certificates from ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE``, else certifi's."""
    bundle = (
        os.environ.get("REQUESTS_CA_BUNDLE")
        or os.environ.get("CURL_CA_BUNDLE")
        or requests.utils.DEFAULT_CA_BUNDLE_PATH
    )
    context = create_urllib3_context()
    try:
        if os.path.isdir(bundle):  # noqa: PTH112  (as requests decides it)
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except OSError as exc:
        raise SetupError(
            f"the certificates to trust cannot be read from {bundle}: {exc.strerror or exc}"
        ) from exc
    context.sslsocket_class = BudgetTlsSocket
    return context
