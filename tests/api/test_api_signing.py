"""The signature of a call."""

import hashlib
import hmac
import json
from urllib.parse import parse_qs

from api_peer import CREDENTIALS, KEY, answers
from hypothesis import given
from hypothesis import strategies as st

from imagefs.api.signing import signed_form

KNOWN_SIGNATURE = (
    "de8448a529d1fa4b135b105a6793ac64e559d742eece851154fe342a754b1abe"
    "76aa0842b02d8684a8f4646fde8ccb4d41409d771b5f1314f98c6c6581468245"
)

TEXTS = st.text(st.characters(codec=None), max_size=40)


@given(
    parameters=st.dictionaries(st.sampled_from(["image_id", "name", "region"]), TEXTS),
    nonce=st.integers(0, 2**33),
)
def test_the_bytes_that_are_sent_are_the_bytes_that_are_signed(parameters, nonce):
    """Whatever the parameters hold, the service finds the signature of the JSON that it receives."""
    form = parse_qs(
        signed_form(CREDENTIALS, "image/rename/", parameters, nonce).decode("ascii"), strict_parsing=True
    )
    [request], [signature], [sent_nonce] = form["req"], form["signature"], form["nonce"]
    message = f"image/rename/|{request}|{nonce}".encode()
    assert signature == hmac.new(KEY.encode(), message, hashlib.sha512).hexdigest()
    assert sent_nonce == str(nonce)
    assert json.loads(request) == {**parameters, "api_id": CREDENTIALS.api_id, "api_partialkey": KEY[:64]}


def test_a_known_call_has_its_known_signature():
    """The formula of the overview page, worked out by hand with openssl."""
    form = parse_qs(signed_form(CREDENTIALS, "image/list/", {}, 1545006189).decode())
    assert form["req"] == ['{"api_id": "ABCDEFGHIJKLMNOP", "api_partialkey": "' + KEY[:64] + '"}']
    assert form["signature"] == [KNOWN_SIGNATURE]


def test_the_whole_key_never_leaves_the_machine():
    """Only the first half of the key is part of a request."""
    assert KEY[64:].encode() not in signed_form(CREDENTIALS, "image/list/", {}, 1)


def test_a_call_is_a_post_to_its_action_with_the_current_second(peer, client, clock):
    """The path ends with a slash, the nonce is whole seconds, and nothing encoded is accepted."""
    peer.script(answers({"images": [], "success": "yes"}))
    client.list_images("toronto")
    [request] = peer.requests
    assert request.path == "/api/image/list/"
    assert request.form["nonce"] == str(int(clock.time()))
    assert request.parameters["region"] == "toronto"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["user-agent"].startswith("imagefs/")
