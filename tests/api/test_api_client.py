"""Calls, and what becomes of each kind of answer."""

import gzip
import json
import traceback
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
from api_peer import (
    CREDENTIALS,
    KEY,
    Peer,
    answers,
    head,
    receive,
    sends,
    sends_and_closes,
    sends_and_resets,
    serving,
)

from imagefs import errors
from imagefs.api import Limits, ServiceClient
from imagefs.core.models import Credentials, ListedImage

ROW = {"image_id": "1", "name": "a", "region": "toronto", "status": "active"}
LISTED = {"images": [ROW], "success": "yes"}
REFUSED = {"success": "no", "error": "invalid image"}

CHANGES = {
    "fetch": lambda client: client.fetch_image(
        region="toronto", name="n", location="https://x/y.iso", image_format="iso", virtio=True
    ),
    "replicate": lambda client: client.replicate_image("1", "montreal"),
    "delete": lambda client: client.delete_image("1"),
    "rename": lambda client: client.rename_image("1", "b"),
}


@pytest.fixture(params=CHANGES)
def change(request):
    """Each call that changes the account."""
    return CHANGES[request.param]


def test_a_listing_is_its_rows(peer, client):
    """Rows arrive as models, with or without a success key."""
    peer.script(answers(LISTED), answers({"images": [ROW]}))
    expected = (ListedImage("1", "a", "toronto", "active"),)
    assert client.list_images().images == expected
    assert client.list_images("toronto").images == expected
    assert "region" not in peer.requests[0].parameters


def test_changes_send_their_documented_parameters(peer, client):
    """Each action has the parameters of the page."""
    peer.script(
        answers({"image_id": "7", "success": "yes"}),
        answers({"image_id": 8}),
        answers({"success": "yes"}),
        answers({"success": "yes"}),
    )
    assert CHANGES["fetch"](client) == "7"
    assert CHANGES["replicate"](client) == "8"
    CHANGES["delete"](client)
    CHANGES["rename"](client)
    credentials = {"api_id": CREDENTIALS.api_id, "api_partialkey": KEY[:64]}
    assert [(request.path, request.parameters) for request in peer.requests] == [
        (
            "/api/image/fetch/",
            {
                "region": "toronto",
                "name": "n",
                "location": "https://x/y.iso",
                "format": "iso",
                "virtio": "yes",
                **credentials,
            },
        ),
        ("/api/image/replicate/", {"image_id": "1", "region": "montreal", **credentials}),
        ("/api/image/delete/", {"image_id": "1", **credentials}),
        ("/api/image/rename/", {"image_id": "1", "name": "b", **credentials}),
    ]


def test_calls_share_one_connection(peer, client):
    """An answer that was read leaves its connection to the next call."""
    peer.script(answers(LISTED))
    for _ in range(5):
        client.list_images()
    assert peer.connections == 1


def test_a_refusal_is_not_tried_again(peer, client):
    """A no is a no."""
    peer.script(answers(REFUSED))
    with pytest.raises(errors.RefusedUnknownImage, match=r"details of '1'.*invalid image"):
        client.image_details("1")
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    "step", [answers(b"", 500), answers(b"", 429), sends_and_closes(b""), sends_and_resets()]
)
def test_reads_are_tried_again(peer, client, clock, step):
    """After an overload or a broken connection, a read is repeated after a growing, random wait."""
    peer.script(step, step, step, answers(LISTED))
    assert len(client.list_images().images) == 1
    first, second, third = clock.slept_s
    assert 0.125 <= first <= 0.25 <= second <= 0.5 <= third <= 1.0


@pytest.mark.parametrize(
    ("step", "error"),
    [(answers(b"", 503), errors.Overloaded), (sends_and_closes(b""), errors.Unreachable)],
)
def test_reads_give_up_at_their_deadline(peer, client, clock, step, error):
    """No wait is begun that would end past the deadline."""
    peer.script(step)
    began_s = clock.monotonic()
    with pytest.raises(error):
        client.list_images(deadline_s=20)
    assert 10 < clock.monotonic() - began_s < 20


@pytest.mark.parametrize(
    ("asked", "waited_s"), [("3", 3), ("3600", 30), ("Tue, 14 Nov 2023 22:13:27 GMT", 6.75)]
)
def test_retry_after_is_honoured_and_capped(peer, client, clock, asked, waited_s):
    """As seconds or as a date, and a random time more, but never longer than the cap."""
    peer.script(answers(b"", 503, Retry_After=asked), answers(LISTED))
    client.list_images()
    (slept_s,) = clock.slept_s
    assert waited_s <= slept_s <= min(waited_s + 0.25, 30)


@pytest.mark.parametrize("asked", ["", "soon", "-5", "9" * 400, "Tue, 99 Nov 2023 22:13:27 GMT"])
def test_a_senseless_retry_after_does_no_harm(peer, client, clock, asked):
    """What cannot be read is not waited for; what is huge is capped."""
    peer.script(answers(b"", 503, Retry_After=asked), answers(LISTED))
    client.list_images()
    assert clock.slept_s[0] <= 30


@pytest.mark.parametrize(
    "step",
    [
        answers(b"", 500),
        answers(b"", 504),
        sends_and_closes(b""),
        sends_and_resets(),
        sends_and_resets(head(200, Content_Length=20)),
        sends_and_closes(head(200, Content_Length=20) + b"{"),
        sends_and_closes(b"HTTP/1.0 200 OK\r\n\r\n" + b'{"success'),
        sends(b"nonsense\r\n\r\n"),
        answers(b"<html>welcome</html>"),
        answers({}),
        answers({"image_id": "../../etc"}),
        answers({"a": "b" * 2_000_000}),
    ],
)
def test_a_change_whose_answer_is_lost_may_be_done_and_is_not_sent_again(peer, client, change, step):
    """The caller learns that it has to look; the service never sees the change twice."""
    peer.script(step)
    with pytest.raises(errors.AnswerLost) as caught:
        change(client)
    assert caught.value.maybe_done
    assert len(peer.requests) == 1


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (answers(b"", 500), errors.ServerFailed),
        (answers(b"", 503), errors.PutOff),
        (sends_and_closes(b""), errors.AnswerLost),
    ],
)
def test_only_a_failing_service_is_told_as_such(peer, client, change, step, error):
    """5xx is the service's own word that it could not; silence is not."""
    peer.script(step)
    with pytest.raises(errors.AnswerLost) as caught:
        change(client)
    assert type(caught.value) is error


def test_a_change_that_is_not_taken_up_now_says_when_it_may_be(peer, client, change):
    """503 is not sent again here: whoever asked looks at the account first."""
    peer.script(answers(b"", 503, Retry_After="7"))
    with pytest.raises(errors.PutOff) as caught:
        change(client)
    assert caught.value.retry_after_s == 7
    assert len(peer.requests) == 1


def test_a_change_that_the_service_puts_off_is_sent_again(peer, client, change):
    """429 means that nothing was carried out."""
    peer.script(answers(b"", 429), answers({"success": "yes", "image_id": "5"}))
    change(client)
    assert len(peer.requests) == 2


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (answers(b"", 429), errors.Overloaded),
        (sends_and_closes(head(429, Content_Length=50)), errors.Overloaded),
        (answers(REFUSED), errors.RefusedUnknownImage),
        (answers(REFUSED, 400), errors.RefusedUnknownImage),
        (answers(b"", 401), errors.CredentialsRefused),
        (answers(b"", 404), errors.MalformedAnswer),
        (answers(b"", 302, Location="https://elsewhere.example/x?y=z"), errors.MalformedAnswer),
    ],
)
def test_a_change_that_was_refused_is_certainly_not_done(peer, client, change, step, error):
    """The caller need not look."""
    peer.script(step)
    with pytest.raises(error) as caught:
        change(client)
    assert not caught.value.maybe_done


def test_a_change_that_finds_no_service_was_not_sent(connect, change, clock):
    """A refused connection is tried again within the deadline and cannot have changed anything."""
    with serving(Peer()) as gone:
        url = gone.url
    with pytest.raises(errors.Unreachable, match="cannot be reached: connection refused") as caught:
        change(connect(url))
    assert not caught.value.maybe_done
    assert len(clock.slept_s) > 3


def test_a_redirect_is_never_followed(peer, client):
    """A signed request goes to no other host, and the message names the host alone."""
    with serving(Peer()) as other:
        other.script(answers(LISTED))
        peer.script(answers(b"x" * 100, 307, Location=f"http://127.0.0.1:{other.port}/secret-path"))
        with pytest.raises(errors.MalformedAnswer, match=r"127\.0\.0\.1") as caught:
            client.list_images()
        assert "secret-path" not in str(caught.value)
        assert not other.requests


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, b"", errors.CredentialsRefused),
        (403, b"", errors.CredentialsRefused),
        (403, b'{"success":"no","error":"permission denied"}', errors.RefusedPermission),
        (403, b'{"success":"no","error":"bad signature"}', errors.CredentialsRefused),
        (403, b'{"success":"no","error":"invalid image"}', errors.RefusedUnknownImage),
        (401, b'{"success":"no","error":"who are you?"}', errors.CredentialsRefused),
        (400, b'{"success":"no","error":"quota exceeded"}', errors.RefusedQuota),
        (404, b"<html>not found</html>", errors.MalformedAnswer),
        (204, b"", errors.MalformedAnswer),
        (299, b"[]", errors.MalformedAnswer),
    ],
)
def test_statuses_have_their_errors(peer, client, status, body, error):
    """Each status that is not 200 has a meaning of its own."""
    peer.script(answers(body, status))
    with pytest.raises(error):
        client.image_details("1")
    assert len(peer.requests) == 1


@pytest.mark.parametrize(("off_s", "says"), [(-3600, "3600 s ahead of"), (90, "90 s behind"), (10, None)])
def test_a_refusal_of_the_credentials_says_by_how_much_the_clock_is_off(peer, client, clock, off_s, says):
    """A wrong clock is the likeliest reason, so the answer's date is compared."""
    date = formatdate(clock.time() + off_s, usegmt=True)
    peer.script(answers({"success": "no", "error": "signature mismatch"}, Date=date))
    with pytest.raises(errors.CredentialsRefused) as caught:
        client.list_images()
    assert ("clock" in str(caught.value)) == (says is not None)
    assert (says or "") in str(caught.value)


def test_a_refused_nonce_is_replaced_by_the_next_seconds_once(peer, client):
    """Whether two calls may share a nonce is not documented: one refusal of it is got over, even for a change."""
    refused = answers({"success": "no", "error": "nonce already used"})
    peer.script(refused, answers({"success": "yes"}), refused)
    client.delete_image("1")
    first, second = (int(request.form["nonce"]) for request in peer.requests)
    assert second == first + 1
    with pytest.raises(errors.CredentialsRefused):
        client.delete_image("1")
    assert len(peer.requests) == 4


def test_an_answer_over_the_limit_is_rejected(peer, connect):
    """Nothing that the service sends fills the memory."""
    peer.script(answers({"images": [], "x": "y" * 3000}))
    client = connect(list_bytes=2000)
    with pytest.raises(errors.MalformedAnswer, match="longer than 2000 bytes"):
        client.list_images()


@pytest.mark.parametrize("call", [ServiceClient.list_images, lambda client: client.image_details("1")])
def test_an_answer_has_its_limit_by_default(peer, client, call):
    """A listing may be long, but neither it nor anything else takes what it likes."""
    peer.script(answers(b'{"images": [], "x": "' + b"y" * (40 << 20) + b'"}'))
    with pytest.raises(errors.MalformedAnswer, match=r"longer than \d+ bytes"):
        call(client)


def test_an_answer_that_may_be_cut_is_asked_for_again(peer, client):
    """Without a length, a listing that is not whole is taken for cut, and never for empty."""
    cut = sends_and_closes(b'HTTP/1.0 200 OK\r\n\r\n{"images": [')
    peer.script(cut, answers(LISTED))
    assert len(client.list_images().images) == 1


def test_fifty_thousand_images_are_listed(peer, client):
    """The account can be large."""
    rows = [{**ROW, "image_id": str(number)} for number in range(50_000)]
    peer.script(answers({"images": rows, "success": "yes"}))
    assert len(client.list_images().images) == 50_000


@pytest.mark.parametrize("said", [{}, {"success": None}, {"image_id": "1"}, {"images": [], "success": None}])
def test_a_change_whose_answer_does_not_say_that_it_succeeded_may_have_been_carried_out(peer, client, said):
    """Nothing is taken for a yes but a yes."""
    peer.script(answers(said))
    with pytest.raises(errors.AnswerLost):
        client.rename_image("1", "b")


def test_without_any_connection_a_listing_can_be_given_up_early(client, peer, clock):
    """Where nobody listens, but not where the service is just slow to answer."""
    peer.script(answers(b"", 503), answers(b"", 503), answers(b"", 503), answers(b"", 503), answers(LISTED))
    assert client.list_images(no_connection_s=1).images
    peer.close()
    client.close()
    began_s = clock.monotonic()
    with pytest.raises(errors.NoConnection, match="refused"):
        client.list_images(no_connection_s=3)
    assert 1 <= clock.monotonic() - began_s <= 3
    with pytest.raises(errors.NoConnection, match="refused"):
        client.list_images(deadline_s=30)
    assert clock.monotonic() - began_s >= 20


SECRETS = (KEY, KEY[:64], KEY[64:], KEY[:20], KEY[70:90])


@pytest.mark.parametrize(
    "step",
    [
        lambda conn, request: answers(
            {"success": "no", "error": f"what is {KEY} or {request.body.decode()}?\x1b[31m\n"}
        )(conn, request),
        lambda conn, request: answers(request.body, 302, Location=f"https://{KEY[:40]}.example/")(
            conn, request
        ),
        lambda conn, request: answers(request.body, 404)(conn, request),
        sends_and_resets(),
        sends_and_closes(b""),
        sends(b"garbage\r\n\r\n"),
        answers(b"", 500),
    ],
)
@pytest.mark.parametrize("name", ["list", "delete", "retrieve"])
def test_no_error_shows_the_key_or_a_signature(peer, client, step, name):
    """Neither a message nor a traceback with all that it is chained to, even if the service echoes them."""
    call = {
        "list": lambda: client.list_images(deadline_s=0.5),
        "delete": lambda: client.delete_image("1", deadline_s=0.5),
        "retrieve": lambda: receive(client.retrieve("1", 10, deadline_s=0.5), 10),
    }[name]
    peer.script(step)
    with pytest.raises(errors.ImagefsError) as caught:
        call()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    chain = caught.value.__context__
    while chain is not None:
        shown += "".join(traceback.format_exception(chain)) + repr(chain) + repr(vars(chain))
        assert not hasattr(chain, "request")
        chain = chain.__context__
    for secret in (*SECRETS, *(request.form["signature"] for request in peer.requests)):
        assert secret not in shown
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/api/",
        "http://127.0.0.1.example.com/",
        "ftp://127.0.0.1/",
        "https://",
        "https:///api/",
        "https://user:password@example.com/",
        "https://example.com/api/?x=1",
        "https://example.com/#f",
        "https://example.com:port/",
        "https://exa mple.com/",
        "https://[::1/",
        "",
    ],
)
def test_a_url_that_cannot_be_right_is_refused_at_once(url):
    """Plain http to elsewhere above all."""
    with pytest.raises(errors.SetupError) as caught:
        ServiceClient(CREDENTIALS, url)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/api", "http://localhost:1/", "http://[::1]:1/", "https://a.b/c"]
)
def test_a_url_that_can_be_right_is_accepted(url):
    """Https to anywhere, and plain http to this machine."""
    ServiceClient(CREDENTIALS, url).close()


@pytest.mark.parametrize(
    ("api_id", "api_key"), [("", "k"), ("i", ""), ("i", "k\ud800"), ("i d", "k"), ("i", "kéy")]
)
def test_credentials_that_cannot_be_right_are_refused_without_showing_them(api_id, api_key):
    """An encoding error would show the key."""
    with pytest.raises(errors.SetupError) as caught:
        ServiceClient(Credentials(api_id, api_key), "https://a.b/")
    assert api_key == "k" or not api_key or api_key not in str(caught.value)


def test_many_threads_share_a_client(peer, client):
    """Calls from several threads at once all succeed."""
    peer.script(answers(LISTED))
    with ThreadPoolExecutor(8) as pool:
        listings = list(pool.map(lambda _: client.list_images(), range(64)))
    assert all(len(listing.images) == 1 for listing in listings)


def test_limits_are_frozen():
    """Nobody changes the bounds of a client that runs."""
    with pytest.raises(AttributeError):
        Limits().stall_s = 1  # type: ignore[misc]


ENCODINGS = {
    "gzip": gzip.compress,
    "X-GZIP": gzip.compress,
    "deflate": zlib.compress,
    "deflate, raw": lambda body: zlib.compress(body, wbits=-15),
}


@pytest.mark.parametrize("kind", ENCODINGS)
@pytest.mark.parametrize("status", [200, 400])
def test_an_answer_that_is_compressed_unasked_is_understood(peer, client, kind, status):
    """Success and refusal alike."""
    refused = ENCODINGS[kind](json.dumps(REFUSED).encode())
    coding = kind.partition(",")[0]
    peer.script(
        answers(ENCODINGS[kind](json.dumps(LISTED).encode()), Content_Encoding=coding),
        answers(refused, status, Content_Encoding=coding),
        answers(refused, status, Content_Encoding=coding),
    )
    assert len(client.list_images().images) == 1
    with pytest.raises(errors.RefusedUnknownImage):
        client.delete_image("1")
    with pytest.raises(errors.RefusedUnknownImage):
        receive(client.retrieve("1", 10_000), 10)


def test_a_compressed_answer_that_grows_without_end_takes_no_memory(peer, client):
    """It is read as far as any other may be."""
    stream = zlib.compressobj(wbits=31)
    bomb = b"".join([*(stream.compress(b" " * 2**20) for _ in range(256)), stream.flush()])
    peer.script(answers(bomb, Content_Encoding="gzip"))
    tracemalloc.start()
    try:
        with pytest.raises(errors.MalformedAnswer, match="longer than"):
            client.image_details("1")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"{}", "gzip"),
        (b"\x0b\x02", "br"),
        (gzip.compress(b"{}", mtime=0), "gzip, gzip"),
        (gzip.compress(b"{}", mtime=0)[:-9], "gzip"),
    ],
)
def test_an_answer_that_cannot_be_decoded_is_malformed(peer, client, change, body, coding):
    """A change may have been carried out all the same."""
    peer.script(answers(body, Content_Encoding=coding))
    with pytest.raises(errors.MalformedAnswer):
        client.list_images()
    with pytest.raises(errors.AnswerLost):
        change(client)
