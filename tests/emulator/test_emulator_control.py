"""Switches, faults, the ledger and the images can be reached from another process."""

from __future__ import annotations

from typing import Any

import pytest

from imagefs.emulator import Switches


def test_switches_are_turned(client: Any, service: Any) -> None:
    """Those named change, the others stay, and the answer shows all."""
    url = f"{service.root_url}control/switches"
    shown = client.session.post(url, json={"range": False, "rate_bytes_per_s": 1000}, timeout=20).json()
    assert shown == client.session.get(url, timeout=20).json() == service.switches.as_dict()
    assert (service.switches.range, service.switches.rate_bytes_per_s) == (False, 1000)


@pytest.mark.parametrize(
    "changes",
    [
        {"rang": True},
        {"range": 1},
        {"saving_s": True},
        {"saving_s": None},
        {"framing": "telegram"},
        {"max_connections": 1.5},
        {"retry_after": 3},
        [],
    ],
)
def test_a_wrong_switch_changes_nothing(client: Any, service: Any, changes: Any) -> None:
    """400 with a sentence; a right switch beside a wrong one is not turned either."""
    body = {"latency_s": 5.0, **changes} if isinstance(changes, dict) else changes
    answer = client.session.post(f"{service.root_url}control/switches", json=body, timeout=20)
    assert answer.status_code == 400
    assert answer.text.strip()
    assert service.switches == Switches(saving_s=60)


def test_a_fault_is_planned_seen_and_cleared(client: Any, service: Any) -> None:
    """By the same names as in Python."""
    url = f"{service.root_url}control/faults"
    client.session.post(url, json={"kind": "status", "action": "list", "status": 500, "times": 2}, timeout=20)
    assert client.post("list").status_code == 500
    shown = client.session.get(url, timeout=20).json()
    assert (shown["waiting"][0]["kind"], shown["struck"]) == ("status", {"status": 1})
    assert client.session.delete(url, timeout=20).json()["waiting"] == []
    assert client.post("list").status_code == 200
    assert client.session.post(url, json={"kind": "none"}, timeout=20).status_code == 400


def test_the_ledger_and_the_images_are_shown(client: Any, service: Any) -> None:
    """Calls with their outcome; images with their details; requests of the control plane are not calls."""
    image_id = service.add_image("one", "toronto", b"12345")
    assert client.post("retrieve", image_id=image_id).content == b"12345"
    client.call("details", image_id="7")
    ledger = client.session.get(f"{service.root_url}control/ledger", timeout=20).json()
    assert [call["outcome"] for call in ledger["calls"]] == ["ok", "refused: invalid image"]
    assert ledger["bytes_retrieved"] == 5
    assert client.session.delete(f"{service.root_url}control/ledger", timeout=20).json()["calls"] == []
    images = client.session.get(f"{service.root_url}control/images", timeout=20).json()["images"]
    assert images[0]["details"]["size"] == "5"


def test_the_control_plane_is_not_made_slow_or_faulty(client: Any, service: Any) -> None:
    """It answers whatever is switched on for the rest."""
    service.switches.latency_s = 3600.0
    assert client.session.get(f"{service.root_url}control/images", timeout=20).json() == {"images": []}
    assert client.session.get(f"{service.root_url}control/else", timeout=20).status_code == 404
    assert client.session.put(f"{service.root_url}control/switches", timeout=20).status_code == 405
