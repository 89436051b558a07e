"""TLS, and the environment: certificates, proxies, netrc."""

import socket
import ssl
import threading
from contextlib import suppress

import pytest
from api_peer import CREDENTIALS, Peer, answers, head, read_request, receive, sends, serving
from certificates import self_signed

from imagefs import errors
from imagefs.api import Limits, ServiceClient, Stop

LISTED = {"images": [], "success": "yes"}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for localhost that signs itself, with its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    path = folder / "both.pem"
    path.write_bytes(b"".join(part.read_bytes() for part in self_signed(folder, "DNS:localhost")))
    return path


class TlsPeer(Peer):
    """A peer that speaks TLS."""

    def __init__(self, certificate):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        super().__init__()

    def wrap(self, conn):
        """The connection after the handshake."""
        return self._context.wrap_socket(conn, server_side=True)

    @property
    def url(self):
        """By the name that the certificate is for."""
        return f"https://localhost:{self.port}/api/"


@pytest.fixture
def tls_peer(certificate):
    """A service with TLS."""
    with serving(TlsPeer(certificate)) as peer:
        yield peer


@pytest.fixture
def trusted(certificate, monkeypatch):
    """The certificate is among those to trust."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))


def test_calls_and_content_go_over_tls(tls_peer, trusted, connect):
    """With the certificates of the environment, and one connection for all."""
    content = bytes(range(256)) * 2000
    tls_peer.script(answers(LISTED), answers(content))
    client = connect(tls_peer.url)
    client.list_images()
    body = client.retrieve("1", len(content))
    received = b""
    while piece := receive(body, 1 << 20):
        received += piece
    assert received == content
    assert tls_peer.connections == 1


def test_an_unknown_certificate_is_refused_at_once(tls_peer, connect, clock):
    """No retry would help, and nothing was sent."""
    tls_peer.script(answers(LISTED))
    for call in (lambda client: client.list_images(), lambda client: client.delete_image("1")):
        with pytest.raises(errors.TlsFailure, match="certificate is not trusted") as caught:
            call(connect(tls_peer.url))
        assert not caught.value.maybe_done
    assert not clock.slept_s
    assert not tls_peer.requests


def test_a_certificate_for_another_host_is_refused(tls_peer, trusted, connect):
    """The name counts."""
    tls_peer.script(answers(LISTED))
    with pytest.raises(errors.TlsFailure):
        connect(tls_peer.url.replace("localhost", "127.0.0.1")).list_images()


def test_a_service_without_tls_is_refused(peer, connect):
    """Plain text in place of a handshake is no network trouble."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk():
            conn, _ = listener.accept()
            with conn:
                conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                conn.recv(100_000)

        threading.Thread(target=talk, daemon=True).start()
        with pytest.raises(errors.TlsFailure, match="TLS failed"):
            connect(f"https://127.0.0.1:{listener.getsockname()[1]}/").list_images()


def test_certificates_that_cannot_be_read_stop_the_start(monkeypatch, tmp_path):
    """With one line that names them."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(errors.SetupError, match=r"missing\.pem"):
        ServiceClient(CREDENTIALS, "https://a.b/")


def test_an_abort_wakes_a_read_of_tls(tls_peer, trusted, connect):
    """And never turns the stream into its ciphertext."""
    tls_peer.script(sends(head(200, Content_Length=500_000) + b"x" * 100_000))
    body = connect(tls_peer.url).retrieve("1", 500_000)
    received = 0
    threading.Timer(0.05, body.abort).start()
    with pytest.raises(errors.TransferBroken, match="stopped"):  # noqa: PT012  (what was read before counts)
        while piece := receive(body, 10_000):
            assert piece == b"x" * len(piece)
            received += len(piece)
    assert received == 100_000


class Proxy(Peer):
    """A proxy that joins a CONNECT to one port, whatever the host."""

    def __init__(self, port):
        self._target = port
        super().__init__()

    def _serve(self, conn):
        with suppress(OSError), conn, conn.makefile("rb", buffering=0) as reader:
            self._open.append(conn)
            self.requests.append(read_request(reader))
            conn.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with socket.create_connection(("127.0.0.1", self._target)) as target:
                back = threading.Thread(target=pump, args=(target, conn), daemon=True)
                back.start()
                pump(conn, target)
                back.join(5)


def pump(source, sink):
    """Pass on what comes until the end."""
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_the_proxy_of_the_environment_is_used(tls_peer, trusted, connect, monkeypatch):
    """By a tunnel, so that it sees nothing of the call."""
    tls_peer.script(answers(LISTED))
    with serving(Proxy(tls_peer.port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "example.com")
        assert connect(tls_peer.url).list_images().images == ()
        assert proxy.requests[0].path == f"localhost:{tls_peer.port}"
    assert len(tls_peer.requests) == 1


def test_a_host_without_proxy_is_asked_directly(tls_peer, trusted, connect, monkeypatch):
    """NO_PROXY counts."""
    tls_peer.script(answers(LISTED))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "localhost")
    connect(tls_peer.url).list_images()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Proxy \x1b[31mAuthentication\r\n\r\n", b""])
def test_a_proxy_that_refuses_is_named(peer, connect, monkeypatch, answer):
    """Nothing reached the service, and nothing of the proxy's text reaches a terminal."""
    peer.script(lambda conn, _request: (conn.sendall(answer), conn.shutdown(socket.SHUT_RDWR)))
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:password@127.0.0.1:{peer.port}")
    with pytest.raises(errors.Unreachable, match="cannot be reached") as caught:
        connect("https://service.invalid/").delete_image("1", deadline_s=0.5)
    assert not caught.value.maybe_done
    assert "\x1b" not in str(caught.value)
    assert "password" not in str(caught.value)


def test_a_proxy_that_trickles_does_not_hang_a_call(peer, monkeypatch):
    """The tunnel is part of connecting, and that has a bound."""

    def trickle(conn, _request):
        while not peer.done.wait(0.01):
            conn.sendall(b"x")

    peer.script(trickle)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{peer.port}")
    client = ServiceClient(CREDENTIALS, "https://service.invalid/", limits=Limits(connect_s=0.1))
    with pytest.raises(errors.Unreachable):
        client.delete_image("1", deadline_s=0.1)
    client.close()


def test_a_socks_proxy_stops_the_start(monkeypatch):
    """It is not supported, and must not be passed by."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(errors.SetupError, match="socks5"):
        ServiceClient(CREDENTIALS, "https://service.invalid/")


def test_no_proxy_sees_a_plain_call(peer, connect, monkeypatch):
    """Plain http is for this machine alone."""
    peer.script(answers(LISTED))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    connect().list_images()


def test_netrc_is_never_used(peer, connect, monkeypatch, tmp_path):
    """Its passwords are for other uses of the host."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    peer.script(answers(LISTED, Set_Cookie="a=b"))
    client = connect()
    client.list_images()
    client.list_images()
    assert all("authorization" not in request.headers for request in peer.requests)
    assert all("cookie" not in request.headers for request in peer.requests)


def test_a_stop_ends_the_wait_for_an_answer_over_tls(tls_peer, trusted):
    """The connection is shut down below its cipher."""
    stop = Stop()
    tls_peer.script(lambda _conn, _request: stop.set())
    client = ServiceClient(CREDENTIALS, tls_peer.url, limits=Limits(attempt_s=60, read_deadline_s=60))
    with pytest.raises(errors.TransferBroken, match="was stopped"):
        client.retrieve("1", 10_000, stop=stop)
    assert len(tls_peer.requests) == 1
    client.close()
