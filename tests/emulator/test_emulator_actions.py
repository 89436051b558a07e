"""The actions answer as the service's page documents them."""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import pytest

CONTENT = b"an image" * 1000


def test_list_is_as_on_the_page(client: Any, service: Any) -> None:
    """Rows of four strings, without a success key unless it is switched on; regions filter."""
    image_id = service.add_image("one", "toronto", CONTENT)
    service.add_image("two", "roubaix", CONTENT)
    row = {"image_id": image_id, "name": "one", "region": "toronto", "status": "active"}
    assert client.call("list", region="toronto") == {"images": [row]}
    assert len(client.call("list")["images"]) == 2
    service.switches.list_success = True
    assert client.call("list", region="toronto") == {"images": [row], "success": "yes"}
    assert client.call("list", region="atlantis") == {"success": "no", "error": "invalid region"}


def test_a_frozen_list_is_the_first_since(client: Any, service: Any) -> None:
    """Whatever happens in the account; details are those of now."""
    image_id = service.add_image("one", "toronto", CONTENT)
    service.switches.list_frozen = True
    first = client.call("list")
    client.call("delete", image_id=image_id)
    service.add_image("two", "roubaix", CONTENT)
    assert client.call("list") == first
    assert client.call("details", image_id=image_id)["success"] == "no"
    service.switches.list_frozen = False
    assert [row["name"] for row in client.call("list")["images"]] == ["two"]


def test_details_are_as_on_the_page(client: Any, service: Any) -> None:
    """Every documented field, all of them strings but metadata."""
    image_id = service.add_image("myimage", "toronto", CONTENT, time_created="2018-12-17T00:23:09.000000")
    assert client.call("details", image_id=image_id) == {
        "details": {
            "cache_mode": "writeback",
            "checksum": hashlib.md5(CONTENT).hexdigest(),
            "disk_format": "iso",
            "hw_disk_bus": "ide",
            "hw_video_model": "cirrus",
            "hw_vif_model": "e1000",
            "is_read_only": "no",
            "libvirt_cpu_mode": "host-model",
            "metadata": [],
            "name": "myimage",
            "region": "toronto",
            "size": "8000",
            "status": "active",
            "time_created": "2018-12-17T00:23:09.000000",
        },
        "success": "yes",
    }


def test_details_can_be_overridden_and_left_out(client: Any, service: Any) -> None:
    """A test can give an image any details at all."""
    image_id = service.add_image("odd", "toronto", CONTENT, size="-1", checksum=None, note={"deep": [1]})
    details = client.details(image_id)
    assert details["size"] == "-1"
    assert "checksum" not in details
    assert details["note"] == {"deep": [1]}


def test_a_replica_is_queued_then_saving_then_active(client: Any, service: Any, clock: Any) -> None:
    """The new id comes at once; content, name and checksum are the source's, the latter once it is active."""
    source = service.add_image("one", "toronto", CONTENT)
    replica = client.call("replicate", image_id=source, region="montreal")["image_id"]
    assert int(replica) > int(source)
    assert client.details(replica)["status"] == "queued"
    assert client.post("retrieve", image_id=replica).json()["success"] == "no"
    clock.advance(30)
    assert client.details(replica)["status"] == "saving"
    assert client.details(replica)["checksum"] == ""
    clock.advance(31)
    details = client.details(replica)
    assert (details["status"], details["name"], details["region"]) == ("active", "one", "montreal")
    assert details["checksum"] == client.details(source)["checksum"]
    assert client.post("retrieve", image_id=replica).content == CONTENT


@pytest.mark.parametrize(
    ("region", "error"),
    [("atlantis", "invalid region"), ("", "invalid region"), ("toronto", "invalid region")],
)
def test_replicate_refuses_what_makes_no_sense(client: Any, service: Any, region: str, error: str) -> None:
    """Unknown regions, and the region where the image is already."""
    image_id = service.add_image("one", "toronto", CONTENT)
    assert client.call("replicate", image_id=image_id, region=region) == {"success": "no", "error": error}
    assert len(service.images()) == 1


def test_replicate_refuses_a_pending_source(client: Any, service: Any) -> None:
    """There is nothing to copy yet."""
    image_id = service.add_image("one", "toronto", CONTENT, status="saving")
    assert client.call("replicate", image_id=image_id, region="montreal")["success"] == "no"


def test_a_replica_whose_source_is_deleted_is_killed(client: Any, service: Any, clock: Any) -> None:
    """A source that goes too early takes the copy with it."""
    source = service.add_image("one", "toronto", CONTENT)
    replica = client.call("replicate", image_id=source, region="montreal")["image_id"]
    assert client.call("delete", image_id=source) == {"success": "yes"}
    clock.advance(100)
    assert client.details(replica)["status"] == "killed"


def test_rename_and_delete(client: Any, service: Any) -> None:
    """Both answer yes, and both are seen by the next call; names need not be unique."""
    image_id = service.add_image("one", "toronto", CONTENT)
    service.add_image("zwei/二", "toronto", CONTENT)
    assert client.call("rename", image_id=image_id, name="zwei/二") == {"success": "yes"}
    assert [row["name"] for row in client.call("list")["images"]] == ["zwei/二", "zwei/二"]
    assert client.call("delete", image_id=image_id) == {"success": "yes"}
    assert client.call("details", image_id=image_id) == {"success": "no", "error": "invalid image"}


@pytest.mark.parametrize("action", ["delete", "rename"])
def test_public_templates_can_be_read_but_not_changed(client: Any, service: Any, action: str) -> None:
    """They are listed with low ids, and the account cannot change them."""
    image_id = service.add_image("template", "toronto", CONTENT, public=True)
    assert int(image_id) < 10000
    assert client.call(action, image_id=image_id, name="mine") == {
        "success": "no",
        "error": "permission denied",
    }
    assert client.post("retrieve", image_id=image_id).content == CONTENT


def test_changes_of_pending_images_can_be_switched_off(client: Any, service: Any) -> None:
    """With the switch off, a replica can be renamed only once it is active."""
    source = service.add_image("one", "toronto", CONTENT)
    replica = client.call("replicate", image_id=source, region="montreal")["image_id"]
    service.switches.pending_changes = False
    assert client.call("rename", image_id=replica, name="two")["success"] == "no"
    service.switches.pending_changes = True
    assert client.call("rename", image_id=replica, name="two")["success"] == "yes"


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("details", "missing parameter: image_id"),
        ("replicate", "missing parameter: image_id"),
        ("burn", "invalid action"),
    ],
)
def test_incomplete_calls_are_refused(client: Any, action: str, error: str) -> None:
    """A missing parameter is named, and an unknown action refused."""
    assert client.call(action) == {"success": "no", "error": error}


@pytest.mark.parametrize("target", ["api/image/list", "api/image/list/x/", "api/image/", "api/", "elsewhere"])
def test_other_addresses_do_not_exist(client: Any, service: Any, target: str) -> None:
    """The trailing slash is part of the address."""
    assert (
        client.session.post(service.root_url + target, data=client.form("list", {}), timeout=20).status_code
        == 404
    )


def test_an_action_is_not_carried_out_by_get(client: Any, service: Any) -> None:
    """Only POST is documented."""
    assert client.session.get(f"{service.api_url}image/list/", timeout=20).status_code == 405


def test_concurrent_replicates_get_ids_of_their_own(client: Any, service: Any) -> None:
    """Calls at the same time do not mix."""
    source = service.add_image("one", "toronto", CONTENT)
    ids: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: ids.append(
                client.call("replicate", image_id=source, region="montreal")["image_id"]
            )
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 12
    assert service.ledger.count("replicate") == 12
