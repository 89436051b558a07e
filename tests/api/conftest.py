"""What all tests of the client share."""

import random

import pytest
from api_peer import CREDENTIALS, FakeClock, Peer, serving

from imagefs.api import Limits, ServiceClient


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """No test depends on the proxies and certificates of the machine that it runs on."""
    for name in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "no_proxy",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def peer():
    """A service without TLS."""
    with serving(Peer()) as a_peer:
        yield a_peer


@pytest.fixture
def clock():
    """Time that only a sleep moves."""
    return FakeClock()


@pytest.fixture
def connect(peer, clock):
    """Make a client of the peer, with a fake clock and short limits; keywords are limits."""
    clients = []

    def make(url=None, **limits):
        limits = Limits(**{"attempt_s": 5.0, "connect_s": 5.0, "stall_s": 5.0, **limits})
        client = ServiceClient(CREDENTIALS, url or peer.url, clock=clock, limits=limits, rng=random.Random(1))
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect):
    """A client of the peer."""
    return connect()
