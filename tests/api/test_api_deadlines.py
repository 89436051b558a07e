"""Every call ends, whatever the other side does: these tests let real time pass, but little of it."""

import socket
import ssl
import threading
import time

import pytest
from api_peer import CREDENTIALS, answers, head, receive, sends, trickles

from imagefs import errors
from imagefs.api import Limits, ServiceClient
from imagefs.api.sockets import dial
from imagefs.api.transport import tls_context

LISTED = {"images": [], "success": "yes"}

SHORT = Limits(read_deadline_s=0.15, change_deadline_s=0.15, rate_window_s=0.1)


@pytest.fixture
def hasty(peer):
    """A client on real time that gives up after 150 ms."""
    client = ServiceClient(CREDENTIALS, peer.url, limits=SHORT)
    yield client
    client.close()


def silent(conn, _request):
    """A service that takes the request and never says a word."""


@pytest.fixture(
    params=[
        lambda peer: silent,
        lambda peer: trickles(peer, b"", head(200, X_Padding="x" * 5000)),
        lambda peer: trickles(
            peer, b"HTTP/1.1 100 Continue\r\n\r\n" * 20, b"HTTP/1.1 100 Continue\r\n\r\n" * 200
        ),
        lambda peer: trickles(peer, head(200, Content_Length=5000), b"{" * 5000),
        lambda peer: trickles(peer, head(200, Transfer_Encoding="chunked"), b"1\r\n{\r\n" * 5000),
        lambda peer: trickles(peer, head(200, Connection="close"), b" " * 5000),
        lambda peer: sends(head(200, Content_Length=50) + b"{"),
    ],
    ids=["silent", "head", "100s", "body", "chunks", "until close", "cut"],
)
def slow(request, peer):
    """A service that never gets to the end of its answer."""
    peer.script(request.param(peer))


@pytest.mark.usefixtures("slow")
def test_a_slow_answer_ends_a_read_at_its_deadline(hasty):
    """Bytes that keep trickling in do not extend it."""
    began_s = time.monotonic()
    with pytest.raises(errors.Unreachable, match="in time"):
        hasty.list_images()
    assert 0.1 < time.monotonic() - began_s < 5


@pytest.mark.usefixtures("slow")
def test_a_slow_answer_ends_a_change_at_its_deadline(hasty):
    """The change was sent, so it may have been carried out."""
    with pytest.raises(errors.AnswerLost):
        hasty.delete_image("1", deadline_s=0.1)


@pytest.mark.usefixtures("slow")
def test_a_slow_answer_ends_the_opening_of_content(hasty):
    """The same holds for content, up to its first bytes."""
    with pytest.raises((errors.Unreachable, errors.TransferBroken, errors.TransferStalled)):
        receive(hasty.retrieve("1", 10_000, stall_s=0.05, deadline_s=0.15), 10)


def test_a_silent_connection_leaves_time_for_another(peer):
    """One attempt takes only a part of the deadline."""
    limits = Limits(attempt_s=0.5, backoff_first_s=0.001)
    client = ServiceClient(CREDENTIALS, peer.url, limits=limits)
    peer.script(silent, answers(LISTED))
    assert client.list_images().images == ()
    client.close()


def test_a_silent_connection_leaves_time_to_look_what_became_of_a_change(peer):
    """It is given up before the deadline, and not sent again."""
    client = ServiceClient(CREDENTIALS, peer.url, limits=Limits(change_attempt_s=0.5))
    peer.script(silent, answers({"success": "yes"}))
    with pytest.raises(errors.AnswerLost):
        client.delete_image("1", deadline_s=600)
    assert len(peer.requests) == 1
    client.close()


@pytest.fixture
def silent_address():
    """One that connections are never made to: a full backlog leaves the handshake of TCP unanswered."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


def test_a_service_that_accepts_no_connection_ends_a_call(silent_address):
    """By the deadline, and nothing was done."""
    client = ServiceClient(CREDENTIALS, f"http://127.0.0.1:{silent_address[1]}/", limits=SHORT)
    with pytest.raises(errors.Unreachable) as caught:
        client.delete_image("1")
    assert not caught.value.maybe_done
    client.close()


def test_a_name_lookup_that_hangs_ends():
    """The resolver knows no timeout, so that it is waited for on a thread of its own."""
    asked = threading.Event()

    def resolver(*_args):
        asked.wait(5)
        return []

    with pytest.raises(TimeoutError, match="name lookup"):
        dial("example.com", 443, 0.05, resolver=resolver)
    asked.set()


def resolver_of(*addresses, families=(socket.AF_INET, socket.AF_INET)):
    """Answers with *addresses*."""

    def resolver(*_args):
        return [
            (family, socket.SOCK_STREAM, 6, "", address)
            for family, address in zip(families, addresses, strict=True)
        ]

    return resolver


def test_the_addresses_of_a_host_are_tried_in_turn(peer):
    """A dead address costs nothing but time."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dead = listener.getsockname()
    resolver = resolver_of(dead, ("127.0.0.1", peer.port))
    dial("example.com", 443, 5, resolver=resolver).close()


def test_a_silent_address_leaves_time_for_the_next(peer, silent_address):
    """As an IPv6 one does that leads nowhere. What is left of all the time is what the connection has."""
    resolver = resolver_of(silent_address, ("127.0.0.1", peer.port))
    with dial("example.com", 443, 4, resolver=resolver) as sock:
        assert sock.getpeername() == ("127.0.0.1", peer.port)
        assert 0 < sock.gettimeout() < 2.2
    resolver = resolver_of(("127.0.0.1", peer.port), silent_address)
    with dial("example.com", 443, 60, resolver=resolver) as sock:
        assert sock.gettimeout() > 31


def test_where_all_addresses_are_silent_the_time_is_up(silent_address):
    """Not before."""
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        dial("example.com", 443, 0.2, resolver=resolver_of(silent_address, silent_address))
    assert time.monotonic() - began_s > 0.19


def test_an_address_of_a_family_that_this_machine_lacks_is_passed_over(peer):
    """The resolver may know an IPv6 address where the kernel was told to do without."""
    no_family = 255
    resolver = resolver_of(("::1", 1), ("127.0.0.1", peer.port), families=(no_family, socket.AF_INET))
    dial("example.com", 443, 5, resolver=resolver).close()


@pytest.mark.ipv6
def test_the_service_may_be_at_an_ipv6_address(clock):
    """Its URL has brackets, its address has none."""
    listener = socket.create_server(("::1", 0), family=socket.AF_INET6)

    def answer():
        conn, _ = listener.accept()
        with conn:
            received = b""
            while b"nonce=" not in received:
                received += conn.recv(65536)
            answers(LISTED)(conn, None)

    with listener:
        threading.Thread(target=answer, daemon=True).start()
        client = ServiceClient(CREDENTIALS, f"http://[::1]:{listener.getsockname()[1]}/", clock=clock)
        assert client.list_images().images == ()
        client.close()


def test_a_name_that_is_not_known_is_unreachable(clock):
    """With the resolver's reason, and tried again, since the network may only be down."""
    client = ServiceClient(CREDENTIALS, "https://no-such-host.invalid/", clock=clock)
    with pytest.raises(errors.Unreachable, match="cannot be reached") as caught:
        client.list_images(deadline_s=1)
    assert not isinstance(caught.value, errors.TlsFailure)
    assert clock.slept_s
    client.close()


def test_a_name_that_cannot_be_one_is_unreachable(clock):
    """The resolver's codec raises an error of its own for a label that is too long."""
    client = ServiceClient(CREDENTIALS, f"https://{'a' * 70}.invalid/", clock=clock)
    with pytest.raises(errors.Unreachable):
        client.delete_image("1", deadline_s=1)
    client.close()


def test_a_tls_handshake_that_hangs_ends():
    """The budget for connecting bounds the handshake as well."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        client = ServiceClient(CREDENTIALS, url, limits=SHORT)
        with pytest.raises(errors.Unreachable, match="in time") as caught:
            client.delete_image("1")
        assert not isinstance(caught.value, errors.TlsFailure)
        assert not caught.value.maybe_done
        client.close()


def test_a_budget_is_shared_by_all_operations(peer):
    """A socket's timeout does not begin anew with each receive."""
    sock = dial("127.0.0.1", peer.port, 5)
    sock.settimeout(0.05)
    time.sleep(0.01)
    assert sock.gettimeout() < 0.045
    with pytest.raises(TimeoutError):
        sock.recv(1)
    with pytest.raises(TimeoutError):
        sock.recv_into(bytearray(1))
    with pytest.raises(TimeoutError):
        sock.sendall(b"x")
    with pytest.raises(TimeoutError):
        sock.send(b"x")
    sock.settimeout(None)
    assert sock.gettimeout() is None
    sock.close()


def test_tls_sockets_have_budgets():
    """The TLS context makes them."""
    assert tls_context().sslsocket_class.settimeout is not ssl.SSLSocket.settimeout
