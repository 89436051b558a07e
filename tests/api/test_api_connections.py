"""A connection whose answers may have shifted is not used again, and no head can be of any size."""

import logging
import socket
import threading
import tracemalloc

import pytest
from api_peer import KEY, answers, chunked, head, receive, sends, sends_and_closes

from imagefs import errors


def details(name):
    """An answer to image/details that can be told from others."""
    return {"details": {"name": name, "region": "toronto", "status": "active", "size": 5}, "success": "yes"}


def whole(body, **headers):
    """All bytes of an answer."""
    sent = []

    class Conn:
        sendall = sent.append

    answers(body, **headers)(Conn(), None)
    return b"".join(sent)


EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    "interim", [EARLY_HINTS, CONTINUE, EARLY_HINTS + CONTINUE + EARLY_HINTS, EARLY_HINTS * 10]
)
def test_interim_answers_are_passed_over(peer, client, interim):
    """None was asked for, but they are allowed (RFC 9110, 15.2), and each call gets its own answer."""
    peer.script(*(sends(interim + whole(details(str(number)))) for number in range(5)))
    assert [client.image_details("1").name for _ in range(5)] == list("01234")
    assert peer.connections == 1


@pytest.mark.parametrize("interim", [EARLY_HINTS * 1000, b"HTTP/1.1 101 Switching Protocols\r\n\r\n"])
def test_what_cannot_be_an_interim_answer_is_none(peer, client, interim):
    """Without end, or in another protocol: a change counts as one whose answer is lost."""
    peer.script(sends(interim + whole({"success": "yes"})))
    with pytest.raises(errors.AnswerLost):
        client.rename_image("1", "b")


@pytest.mark.parametrize("first", ["length", "chunked"])
@pytest.mark.parametrize(
    "stray",
    [whole(details("stray")), whole(details("stray"))[:20], b"\r\n", b"x", CONTINUE, whole(b"", status=408)],
)
def test_bytes_after_an_answer_do_not_become_the_next_answer(peer, client, first, stray):
    """Whether they come along with the answer or after it."""
    body = whole(details("0"))
    if first == "chunked":
        body = chunked(b'{"details": {"name": "0"}, "success": "yes"}')
    peer.script(sends(body + stray), answers(details("1")), answers(details("2")))
    assert [client.image_details("1").name for _ in range(3)] == list("012")
    assert peer.connections == 2


def test_bytes_that_arrive_between_calls_do_not_become_the_next_answer(peer, client):
    """Such as the 408 that some services send on idle connections."""

    answered, sent = threading.Event(), threading.Event()

    def step(conn, _request):
        conn.sendall(whole(details("0")))
        answered.wait(60)
        conn.sendall(whole(details("stray"), status=408))
        sent.set()

    peer.script(step, answers(details("1")))
    assert client.image_details("1").name == "0"
    answered.set()
    assert sent.wait(60)
    assert client.image_details("1").name == "1"


def test_a_body_that_an_answer_without_one_brings_along_is_not_the_next_answer(peer, client):
    """204 has none, whatever its length says (RFC 9112, 6.3)."""
    peer.script(sends(head(204, Content_Length=9) + whole(details("stray"))), answers(details("1")))
    with pytest.raises(errors.AnswerLost):
        client.delete_image("1")
    assert client.image_details("1").name == "1"


@pytest.mark.parametrize(
    "unending",
    [b"X-%d: y\r\n", b"X-%d: " + b"y" * 60_000 + b"\r\n", b" folded %d\r\n", b"X: %d" + b"\0" * 1000],
)
@pytest.mark.parametrize("call", ["details", "content"])
def test_a_head_of_any_size_takes_little_memory(peer, client, unending, call):
    """It is given up; all that would be kept of it is bounded."""

    def step(conn, _request):
        conn.sendall(b"HTTP/1.1 200 OK\r\n")
        for number in range(2000):
            conn.sendall(unending % number)

    peer.script(step)
    asked = {
        "details": lambda: client.image_details("1", deadline_s=0.2),
        "content": lambda: client.retrieve("1", 5, deadline_s=0.2),
    }[call]
    tracemalloc.start()
    try:
        with pytest.raises(errors.ServiceError):
            asked()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4_000_000


def test_a_connection_that_rested_for_long_is_not_used_again(peer, client, monkeypatch):
    """Somebody on the way may have forgotten it."""
    peer.script(answers(details("1")))
    for _ in range(2):
        client.image_details("1")
    assert peer.connections == 1
    monkeypatch.setattr("imagefs.api.connections.REST_S", -1.0)
    client.image_details("1")
    assert peer.connections == 2


@pytest.mark.parametrize("call", ["details", "content"])
def test_a_chunk_of_negative_size_takes_little_memory(peer, client, call):
    """Which http.client takes for one that goes on to the end of the stream."""

    def step(conn, _request):
        conn.sendall(head(200 if call == "details" else 404, Transfer_Encoding="chunked") + b"-1\r\n")
        for _ in range(16):
            conn.sendall(bytes(1 << 20))
        conn.shutdown(socket.SHUT_RDWR)

    peer.script(step)
    asked = {"details": client.image_details, "content": lambda image_id: client.retrieve(image_id, 5)}[call]
    tracemalloc.start()
    try:
        with pytest.raises(errors.MalformedAnswer):
            asked("1")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 6_000_000


@pytest.mark.parametrize("name", ["list", "delete", "retrieve"])
@pytest.mark.parametrize("status", [200, 302, 404, 429, 503])
def test_no_log_shows_the_key_or_a_signature(peer, client, caplog, status, name):
    """At no level and of no library, wherever in an answer the service echoes them."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3.connection").setLevel(logging.DEBUG)

    def echo(conn, request):
        said = request.body
        lines = [
            b"HTTP/1.1 %d %s" % (status, said[:500]),
            b"no colon in " + said[:900],
            b"Location: https://x.example/?" + said[:900],
            b"Content-Type: " + said[:900],
            b"Retry-After: " + KEY.encode(),
            b"Content-Length: 5",
            b"",
            said[:5],
        ]
        sends_and_closes(b"\r\n".join(lines))(conn, request)

    peer.script(echo)
    call = {
        "list": lambda: client.list_images(deadline_s=0.5),
        "delete": lambda: client.delete_image("1", deadline_s=0.5),
        "retrieve": lambda: receive(client.retrieve("1", 10, deadline_s=0.5), 10),
    }[name]
    with pytest.raises(errors.ImagefsError):
        call()
    signature = peer.requests[-1].form["signature"]
    for secret in (KEY[:12], KEY[30:42], KEY[64:76], KEY[-12:], signature[:16], signature[-16:]):
        assert secret not in caplog.text


def test_a_signature_that_a_long_text_cuts_is_not_shown(peer, client):
    """Nor a part of the key, however many words before them are left out."""
    for filler in (" " * 3990, "{} ".format("ab" * 40) * 50, "x" * 10_000):

        def echo(conn, request, filler=filler):
            said = f"{filler[:3950]} {request.form['signature']} {KEY}"
            answers({"success": "no", "error": said})(conn, request)

        peer.script(echo)
        with pytest.raises(errors.Refused) as caught:
            client.image_details("1")
        signature = peer.requests[-1].form["signature"]
        for secret in (KEY[:12], KEY[-12:], signature[:16]):
            assert secret not in str(caught.value)
