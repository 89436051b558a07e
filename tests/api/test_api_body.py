"""Content as it arrives: only the image's own bytes, or an error."""

import threading

import pytest
from api_peer import (
    CREDENTIALS,
    answers,
    chunked,
    head,
    receive,
    sends,
    sends_and_closes,
    sends_and_resets,
    trickles,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagefs import errors
from imagefs.api import Limits, ServiceClient

CONTENT = bytes(range(256)) * 1024
SIZE = len(CONTENT)
REFUSAL = b'{"success": "no", "error": "invalid image"}'
HTML = b"<html><body>Maintenance</body></html>"


def read_all(body, at_once=65536):
    """Everything up to the end, and the body closed."""
    pieces = []
    while piece := receive(body, at_once):
        assert len(piece) <= at_once
        pieces.append(piece)
    assert receive(body, at_once) == b""
    body.close()
    return b"".join(pieces)


def ranged(start, end, size=SIZE, content=CONTENT, **headers):
    """An honest answer to a range."""
    return answers(content[start:end], 206, Content_Range=f"bytes {start}-{end - 1}/{size}", **headers)


@pytest.mark.parametrize(
    "step",
    [
        answers(CONTENT),
        answers(CONTENT, Content_Type="application/json"),
        sends(chunked(CONTENT[:1000], CONTENT[1000:])),
        sends(chunked(*(CONTENT[i : i + 700] for i in range(0, SIZE, 700)), b"")[:-7] + b"0\r\n\r\n"),
        sends_and_closes(head(200) + CONTENT),
        sends_and_closes(b"HTTP/1.0 200 OK\r\n\r\n" + CONTENT),
    ],
    ids=["length", "json type", "chunked", "small chunks", "until close", "http 1.0"],
)
@pytest.mark.parametrize("at_once", [1 << 20, 1000])
def test_content_arrives_whole(peer, client, step, at_once):
    """However the service frames it."""
    peer.script(step)
    body = client.retrieve("1", SIZE)
    assert (body.start, body.end, body.ranged) == (0, SIZE, None)
    assert read_all(body, at_once) == CONTENT
    assert "range" not in peer.requests[0].headers


def test_a_range_arrives_where_it_is_honoured(peer, client):
    """The answer says so by 206 and the very range."""
    peer.script(ranged(1000, 5000), ranged(5000, SIZE))
    body = client.retrieve("1", SIZE, 1000, 5000)
    assert (body.start, body.end, body.ranged) == (1000, 5000, True)
    assert read_all(body) == CONTENT[1000:5000]
    assert read_all(client.retrieve("1", SIZE, 5000)) == CONTENT[5000:]
    assert [request.headers["range"] for request in peer.requests] == [
        "bytes=1000-4999",
        f"bytes=5000-{SIZE - 1}",
    ]


def test_everything_arrives_where_a_range_is_not_honoured(peer, client):
    """A 200 is the whole content, whatever was asked for."""
    peer.script(answers(CONTENT))
    body = client.retrieve("1", SIZE, 1000, 5000)
    assert (body.start, body.end, body.ranged) == (0, SIZE, False)
    assert read_all(body) == CONTENT


def test_bodies_that_were_read_share_a_connection(peer, client):
    """Many small ranges need one connection."""
    peer.script(ranged(0, 10))
    for _ in range(5):
        assert read_all(client.retrieve("1", SIZE, 0, 10)) == CONTENT[:10]
    assert peer.connections == 1


def test_a_body_that_was_not_read_closes_its_connection(peer, client):
    """What is left in it must not be taken for the next answer."""
    peer.script(answers(CONTENT))
    client.retrieve("1", SIZE).close()
    body = client.retrieve("1", SIZE)
    receive(body, 10)
    body.close()
    assert read_all(client.retrieve("1", SIZE)) == CONTENT
    assert peer.connections == 3


@pytest.mark.parametrize(
    "content_range",
    [
        None,
        "",
        f"bytes 1000-4998/{SIZE}",
        f"bytes 1001-4999/{SIZE}",
        f"bytes 0-3999/{SIZE}",
        f"bytes 1000-4999/{SIZE + 1}",
        f"bytes=1000-4999/{SIZE}",
        f"Bytes 1000-4999/{SIZE}, bytes 0-1/{SIZE}",
        "bytes */5000",
    ],
)
def test_another_range_than_asked_is_rejected(peer, client, content_range):
    """Bytes of another place are wrong bytes."""
    headers = {} if content_range is None else {"Content_Range": content_range}
    peer.script(answers(CONTENT[1000:5000], 206, **headers))
    with pytest.raises(errors.TransferBroken):
        client.retrieve("1", SIZE, 1000, 5000)


@pytest.mark.parametrize(
    ("step", "refused"),
    [
        (answers(b"", 416, Content_Range=f"bytes */{SIZE}"), True),
        (answers(CONTENT[1000:4999], 206, Content_Range=f"bytes 1000-4998/{SIZE}"), True),
        (answers(CONTENT[1000:1001], 206, Content_Range="bytes 1000-1000/*"), True),
        (answers(CONTENT[1001:5000], 206, Content_Range=f"bytes 1001-4999/{SIZE}"), False),
        (answers(CONTENT[1000:5001], 206, Content_Range=f"bytes 1000-5000/{SIZE}"), False),
        (answers(CONTENT[1000:5000], 206, Content_Range="bytes 1000-999/*"), False),
    ],
)
def test_a_range_that_is_not_sent_or_in_part_is_refused(peer, client, step, refused):
    """RFC 9110, 15.3.7: a server may send less than was asked for. What lies elsewhere is no refusal, but wrong."""
    peer.script(step)
    with pytest.raises(errors.TransferBroken) as caught:
        client.retrieve("1", SIZE, 1000, 5000)
    assert isinstance(caught.value, errors.RangeRefused) is refused


def test_a_range_of_unknown_total_is_accepted(peer, client):
    """RFC 9110 allows an asterisk for the length of the whole."""
    peer.script(answers(CONTENT[:10], 206, Content_Range="bytes 0-9/*"))
    assert read_all(client.retrieve("1", SIZE, 0, 10)) == CONTENT[:10]


@pytest.mark.parametrize(
    "step",
    [
        answers(CONTENT, 206, Content_Range=f"bytes 0-{SIZE - 1}/{SIZE}"),
        answers(CONTENT[:-1]),
        answers(CONTENT + b"x"),
        answers(CONTENT, Content_Encoding="gzip"),
        answers(CONTENT, Content_Length=f"{SIZE}, {SIZE}"),
        answers(CONTENT, Content_Length=f"+{SIZE}"),
        answers(CONTENT, Content_Length="-1"),
        answers(CONTENT, Transfer_Encoding="gzip, chunked"),
        sends(head(200, Content_Length=SIZE, Transfer_Encoding="chunked") + b"0\r\n\r\n"),
        answers(HTML),
        answers(b"", 204),
        answers(b"", 416),
        sends(chunked(CONTENT + b"x")),
        sends(chunked(CONTENT[:-1])),
        sends(chunked(CONTENT[:-1], end=b"")),
        sends_and_closes(chunked(CONTENT[:-1], end=b"")),
        sends_and_closes(chunked(CONTENT[:-1], end=b"zz\r\n")),
        sends_and_closes(head(200) + CONTENT[:-1]),
        sends_and_closes(head(200) + CONTENT + b"x"),
        sends_and_closes(head(200) + HTML),
        sends_and_closes(head(200, Content_Length=SIZE) + CONTENT[:-1]),
        sends_and_resets(head(200, Content_Length=SIZE) + CONTENT[:-1]),
    ],
)
def test_an_answer_that_is_not_the_content_is_rejected(peer, connect, step):
    """Cut short, too long, encoded, of another length, or not the content at all."""
    peer.script(step)
    with pytest.raises((errors.TransferBroken, errors.TransferStalled)):
        read_all(connect(stall_s=0.1).retrieve("1", SIZE))


def test_a_small_range_without_length_is_told_from_a_web_page(peer, client):
    """Not a byte of the page is given out, as the last block of an image can be this small."""

    def part(body):
        start = head(206, Transfer_Encoding="chunked", Content_Range=f"bytes {SIZE - 1}-{SIZE - 1}/{SIZE}")
        return sends(start + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

    peer.script(part(HTML), part(CONTENT[-1:]))
    with pytest.raises(errors.TransferBroken, match="Maintenance"):
        receive(client.retrieve("1", SIZE, SIZE - 1), 1)
    assert read_all(client.retrieve("1", SIZE, SIZE - 1)) == CONTENT[-1:]


@pytest.mark.parametrize("step", [answers(CONTENT[:-1]), answers(CONTENT + b"x"), answers(HTML)])
def test_an_announced_length_is_judged_before_any_byte(peer, client, step):
    """What cannot be the content is not even begun with."""
    peer.script(step)
    with pytest.raises(errors.TransferBroken, match=f"in place of {SIZE}"):
        client.retrieve("1", SIZE)


@pytest.mark.parametrize("size_bytes", [0, 10, len(REFUSAL), 4096, 100_000, 1 << 30])
@pytest.mark.parametrize(
    "step",
    [
        answers(REFUSAL),
        answers(REFUSAL, Content_Type="application/octet-stream"),
        answers(REFUSAL, 400),
        sends(chunked(REFUSAL)),
        sends(chunked(*(bytes([byte]) for byte in REFUSAL))),
        sends_and_closes(head(200) + REFUSAL),
        sends_and_closes(head(200) + b"\n  " + REFUSAL + b"\n"),
    ],
)
def test_a_refusal_is_never_content(peer, client, step, size_bytes):
    """Whatever it is called, however it is framed, even if it is as long as the content."""
    peer.script(step)
    with pytest.raises(errors.RefusedUnknownImage, match="invalid image"):
        receive(client.retrieve("1", size_bytes), 100)


def test_a_long_refusal_without_length_is_never_content(peer, client):
    """What starts like JSON is held back for a mebibyte."""
    peer.script(
        sends(chunked(b'{"success": "no", "trace": "', b"x" * 500_000, b'", "error": "quota exceeded"}'))
    )
    with pytest.raises(errors.RefusedQuota):
        receive(client.retrieve("1", 1 << 30), 100)


def test_a_web_page_is_shown_and_never_content(peer, client):
    """Its text is the reason that a person sees."""
    peer.script(sends(chunked(HTML)))
    with pytest.raises(errors.TransferBroken, match="Maintenance"):
        receive(client.retrieve("1", SIZE), 100)


@pytest.mark.parametrize(
    "content", [b"{", b"{}", b'{"success": "yes"}', b'["a"]' * 20_000, b" " * 70_000, b""]
)
def test_content_may_look_like_an_answer(peer, client, content):
    """Only a refusal is a refusal."""
    peer.script(answers(content), sends(chunked(content) if content else chunked()))
    for _ in range(2):
        assert read_all(client.retrieve("1", len(content))) == content


def test_an_overload_is_waited_for(peer, client, clock):
    """Opening content is a read as any other."""
    limited = answers({"success": "no", "error": "rate limit exceeded, try again later"})
    peer.script(answers(b"", 503, Retry_After=2), answers(b"", 429), limited, answers(CONTENT))
    assert read_all(client.retrieve("1", SIZE)) == CONTENT
    assert len(clock.slept_s) == 3


def test_silence_is_a_stall(peer, client):
    """The content begins and stays away."""
    peer.script(sends(head(200, Content_Length=SIZE) + CONTENT[:1000]))
    body = client.retrieve("1", SIZE, stall_s=0.05)
    with pytest.raises(errors.TransferStalled, match=r"0\.05 s"):
        read_all(body)


@pytest.mark.parametrize("framing", [{"Content_Length": SIZE}, {"Transfer_Encoding": "chunked"}])
def test_a_trickle_is_a_stall(peer, framing):
    """A byte now and then never trips the wait for the next one."""
    start = head(200, **framing) + (b"" if "Content_Length" in framing else b"40000\r\n")
    peer.script(trickles(peer, start, b"x" * 10_000, every_s=0.002))
    limits = Limits(rate_window_s=0.05, least_rate=100_000)
    client = ServiceClient(CREDENTIALS, peer.url, limits=limits)
    with pytest.raises(errors.TransferStalled, match="bytes a second"):
        read_all(client.retrieve("1", SIZE))
    client.close()


def test_content_without_a_length_that_does_not_end_is_still_whole(peer, client, monkeypatch):
    """All bytes are there; a connection that is left open adds none."""
    monkeypatch.setattr("imagefs.api.body.LAST_WAIT_S", 0.02)
    peer.script(sends(head(200, Connection="close") + CONTENT))
    assert read_all(client.retrieve("1", SIZE)) == CONTENT


def test_an_abort_wakes_a_blocked_read(peer, client):
    """From another thread, once or twice."""
    peer.script(sends(head(200, Content_Length=SIZE) + CONTENT[:1000]))
    body = client.retrieve("1", SIZE)
    assert receive(body, 1000)
    threading.Timer(0.02, lambda: (body.abort(), body.abort())).start()
    with pytest.raises(errors.TransferBroken, match="stopped"):
        read_all(body)
    with pytest.raises(errors.TransferBroken):
        receive(body, 1)
    body.close()


def test_an_aborted_body_gives_nothing_more(peer, client):
    """Not even what has arrived already."""
    peer.script(answers(CONTENT))
    body = client.retrieve("1", SIZE)
    assert receive(body, 10)
    body.abort()
    with pytest.raises(errors.TransferBroken):
        receive(body, 10)


def test_a_late_abort_does_not_hit_the_connections_next_user(peer, client):
    """Once a body was read, its connection is another's."""
    aborted = threading.Event()

    def in_two_parts(conn, _request):
        conn.sendall(head(206, Content_Length=10, Content_Range=f"bytes 0-9/{SIZE}") + CONTENT[:5])
        aborted.wait(30)
        conn.sendall(CONTENT[5:10])

    peer.script(ranged(0, 10), in_two_parts)
    first = client.retrieve("1", SIZE, 0, 10)
    read_all(first)
    second = client.retrieve("1", SIZE, 0, 10)
    first.abort()
    aborted.set()
    assert read_all(second) == CONTENT[:10]
    assert peer.connections == 1


@pytest.mark.parametrize(
    ("start", "end"), [(-1, None), (5, 4), (5, 5), (0, SIZE + 1), (SIZE, None), (SIZE + 1, None)]
)
def test_a_range_that_makes_no_sense_is_a_bug(client, start, end):
    """It is refused before anything is asked."""
    with pytest.raises(ValueError, match="no bytes"):
        client.retrieve("1", SIZE, start, end)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.just(REFUSAL),
        st.integers(0, 200_000).map(lambda size: b"\x00ab" * (size // 3)),
    ),
    sent=st.sampled_from(["same", "cut", "longer", "other"]),
    framing=st.sampled_from(["length", "chunked", "close"]),
    cuts=st.lists(st.integers(1, 5000), max_size=4),
)
def test_what_is_read_is_the_content_or_an_error(peer, connect, content, sent, framing, cuts):
    """For any content, framing and damage: a body that ends was as long as the image, and what the service sent."""
    data = {"same": content, "cut": content[:-1], "longer": content + b"y", "other": b"<html>"}[sent]
    if framing == "length":
        step = answers(data)
    elif framing == "chunked":
        pieces, rest = [], data
        for cut in cuts:
            pieces, rest = [*pieces, rest[:cut]], rest[cut:]
        step = sends(chunked(*(piece for piece in (*pieces, rest) if piece)))
    else:
        step = sends_and_closes(head(200) + data)
    peer.script(step)
    body = None
    try:
        body = connect(stall_s=0.5).retrieve("1", len(content))
        received = read_all(body, 777)
        assert received == data
        assert len(received) == len(content)
    except errors.ImagefsError:
        assert data != content or content == REFUSAL
