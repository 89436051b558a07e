"""A call is carried out only where its credentials, signature and nonce are those of the page."""

from __future__ import annotations

import json
from typing import Any

import pytest

FORGERIES = {
    "signature": {"signature": "0" * 128},
    "no signature": {"signature": ""},
    "changed request": {"req": "{}"},
    "not JSON": {"req": "nonsense"},
    "not a map of strings": {"req": json.dumps({"image_id": 5})},
    "nonce not a number": {"nonce": "now"},
    "another nonce": {"nonce": "1"},
}


@pytest.mark.parametrize("wrong", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_call_is_refused(client: Any, service: Any, wrong: dict[str, str]) -> None:
    """Whatever part of the form is wrong, the answer is the service's no."""
    answer = client.session.post(
        f"{service.api_url}image/list/", data=client.form("list", {}, **wrong), timeout=20
    )
    assert answer.status_code == 200
    assert answer.json()["success"] == "no"
    assert service.ledger.calls[-1].outcome.startswith("refused: ")


@pytest.mark.parametrize("body", [b"", b"req", b"req=1&req=2", b"\xff\xfe=1", b"a=1&" * 50 + b"a=1"])
def test_a_body_that_is_no_form_is_refused(client: Any, service: Any, body: bytes) -> None:
    """Bodies that are not the form of the page end in a refusal, never in a broken connection."""
    answer = client.session.post(f"{service.api_url}image/list/", data=body, timeout=20)
    assert answer.json()["success"] == "no"


@pytest.mark.parametrize(
    ("off_s", "accepted"), [(0, True), (-290, True), (290, True), (-310, False), (310, False)]
)
def test_a_nonce_is_accepted_within_the_window(
    client: Any, clock: Any, service: Any, off_s: int, accepted: bool
) -> None:
    """The nonce may be off by the window, in both directions, and no more."""
    service.switches.clock_offset_s = off_s
    assert ("images" in client.call("list")) is accepted


def test_the_date_header_tells_the_clock_of_the_service(client: Any, service: Any) -> None:
    """A clock that is off can be found out from the answer."""
    service.switches.clock_offset_s = 86400.0
    tomorrow = client.post("list").headers["Date"]
    service.switches.clock_offset_s = 0.0
    assert client.post("list").headers["Date"] != tomorrow


def test_nonces_can_be_asked_to_be_unique(client: Any, service: Any) -> None:
    """With the switch, the second call of one second is refused; without it, it is not."""
    assert "images" in client.call("list")
    service.switches.unique_nonce = True
    assert "images" in client.call("list")
    assert "nonce" in client.call("list")["error"]


@pytest.mark.parametrize(("form", "status"), [("json", 200), ("401", 401), ("403", 403)])
def test_refusals_take_the_form_that_is_asked_for(client: Any, service: Any, form: str, status: int) -> None:
    """A refusal comes as the page shows it, or with a status."""
    service.switches.refuse_form = form
    answer = client.post("details", image_id="1")
    assert answer.status_code == status
    assert answer.json() == {"success": "no", "error": "invalid image"}


def test_no_secret_gets_into_the_ledger(client: Any, service: Any) -> None:
    """What the control plane shows holds neither the key nor its half."""
    client.call("list", region="toronto")
    shown = client.session.get(f"{service.root_url}control/ledger", timeout=20).text
    assert "toronto" in shown
    assert service.api_key[:64] not in shown
    assert service.api_key[64:] not in shown


def test_the_credentials_have_the_documented_lengths_and_are_private(service: Any) -> None:
    """16 and 128 characters, in a file for its owner only."""
    assert (len(service.api_id), len(service.api_key)) == (16, 128)
    assert service.credentials_file.stat().st_mode & 0o777 == 0o600
