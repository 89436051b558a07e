"""A call whose answer has not begun ends as soon as nobody waits for it any more, and hits nobody else's."""

import threading

import pytest
from api_peer import CREDENTIALS, answers

from imagefs import errors
from imagefs.api import Limits, ServiceClient, Stop
from imagefs.api.connections import PlainConnection

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def patient(peer):
    """A client on real time, whose attempts wait far longer than any test."""
    client = ServiceClient(CREDENTIALS, peer.url, limits=Limits(attempt_s=60, read_deadline_s=60))
    yield client
    client.close()


def stopped(client, stop):
    """Whether opening content ends with what a stop raises."""
    with pytest.raises(errors.TransferBroken, match="was stopped"):
        client.retrieve("1", len(CONTENT), stop=stop)


def test_a_stop_ends_the_wait_for_an_answer(peer, patient):
    """It is not asked again, and that no answer came is not the service's fault."""
    stop = Stop()
    peer.script(lambda _conn, _request: stop.set())
    stopped(patient, stop)
    assert len(peer.requests) == 1
    assert patient.tally.calls.unanswered == 0


def test_a_stop_ends_the_wait_on_a_connection_that_was_used_before(peer, patient):
    """Where nothing is connected that could notice it."""
    stop = Stop()
    peer.script(answers({"images": [], "success": "yes"}), lambda _conn, _request: stop.set())
    patient.list_images()
    stopped(patient, stop)
    assert peer.connections == 1


@pytest.mark.parametrize(
    "begun",
    [b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n{"],
    ids=["head", "refusal"],
)
def test_a_stop_ends_the_wait_for_the_rest_of_an_answer(peer, patient, begun):
    """Of a head, or of the text that a head announces: what has come of it is of no use."""
    stop = Stop()

    def step(conn, _request):
        conn.sendall(begun)
        stop.set()

    peer.script(step)
    stopped(patient, stop)


def test_a_stop_ends_the_wait_before_another_attempt(peer):
    """However long the service asks for."""
    stop = Stop()
    client = ServiceClient(CREDENTIALS, peer.url, limits=Limits(retry_after_most_s=300, read_deadline_s=600))

    def step(conn, request):
        answers(b"", 503, Retry_After=200)(conn, request)
        threading.Timer(0.05, stop.set).start()

    peer.script(step)
    stopped(client, stop)
    assert len(peer.requests) == 1
    client.close()


def test_a_stop_before_the_call_asks_nobody(peer, patient):
    """No connection is made for it."""
    stop = Stop()
    stop.set()
    stopped(patient, stop)
    assert peer.connections == 0


def test_a_stop_while_it_connects_asks_nobody(peer, patient, monkeypatch):
    """There is nothing to wake yet, but nothing is sent any more."""
    stop = Stop()
    dial = PlainConnection._new_conn

    def stops_meanwhile(connection):
        sock = dial(connection)
        stop.set()
        return sock

    monkeypatch.setattr(PlainConnection, "_new_conn", stops_meanwhile)
    peer.script(answers(CONTENT))
    stopped(patient, stop)
    assert peer.requests == []


def test_a_stop_after_the_answer_began_does_not_hit_the_connections_next_user(peer, patient):
    """A body has its own end, and its connection is another's once it was read."""
    stop = Stop()
    asked, set_by_now = threading.Event(), threading.Event()

    def late(conn, request):
        asked.set()
        set_by_now.wait(60)
        answers({"images": [], "success": "yes"})(conn, request)

    peer.script(answers(CONTENT), late)
    body = patient.retrieve("1", len(CONTENT), stop=stop)
    buffer = memoryview(bytearray(1 << 20))
    while body.read_into(buffer):
        pass

    def stops_late():
        asked.wait(60)
        stop.set()
        set_by_now.set()

    threading.Thread(target=stops_late).start()
    assert patient.list_images().images == ()
    assert peer.connections == 1


def test_a_stop_ends_no_other_call(peer, patient):
    """Also of the same thread, made later."""
    stop = Stop()
    peer.script(lambda _conn, _request: stop.set(), answers(CONTENT))
    stopped(patient, stop)
    patient.retrieve("1", len(CONTENT), stop=Stop()).close()
    patient.retrieve("1", len(CONTENT)).close()
