"""The account outlives the emulator; the port and the directory are given back."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import requests
from certificates import self_signed

from imagefs.emulator import Emulator, EmulatorError, Fault, Switches


def test_everything_is_there_after_a_restart(tmp_path: Path, clock: Any) -> None:
    """Images with their contents and order, credentials, and ids that are not given out twice."""
    with Emulator(tmp_path, clock=clock) as first:
        kept = [first.add_image(name, "toronto", name.encode()) for name in ("b", "a", "ü/\0")]
        gone = first.add_image("gone", "toronto", b"gone")
        first.remove_image(gone)
        before = first.images()
        key = (first.api_id, first.api_key)
    with Emulator(tmp_path, clock=clock) as second:
        assert second.images() == before
        assert [second.content(image_id).read_bytes() for image_id in kept] == [b"b", b"a", "ü/\0".encode()]
        assert (second.api_id, second.api_key) == key
        assert int(second.add_image("new", "toronto", b"")) > int(gone)
        contents = {path.read_bytes() for path in (tmp_path / "content").iterdir()}
        assert b"gone" not in contents


def test_replicas_settle_over_a_restart_and_fetches_are_killed(
    tmp_path: Path, clock: Any, client: Any
) -> None:
    """A replica needs no process; a download that was cut does not come back."""
    client.service.switches.saving_s = 60
    source = client.service.add_image("one", "toronto", b"one")
    replica = client.call("replicate", image_id=source, region="montreal")["image_id"]
    client.service.add_image("slow", "roubaix", b"x" * 100_000)
    client.service.faults.add(Fault("stall", "plain"))
    location = f"{client.service.root_url}plain/roubaix/slow"
    fetch = client.call("fetch", region="toronto", name="cut", location=location, format="iso")["image_id"]
    data_dir = client.service.data_dir
    client.service.close()
    clock.advance(61)
    again = Emulator(data_dir, clock=clock)
    assert again.image(replica).status == "active"
    assert again.image(fetch).status == "killed"
    again.close()


def test_it_can_be_stopped_and_started_on_its_port(client: Any, service: Any) -> None:
    """As an outage: connections are cut and refused, then all goes on at the same address."""
    url = service.api_url
    service.add_synthetic("big", "toronto", 8 << 20)
    service.switches.framing = "chunked"
    service.switches.rate_bytes_per_s = 1 << 20
    running = client.post("retrieve", image_id=service.images()[0].image_id)
    service.stop()
    with pytest.raises(requests.exceptions.RequestException):
        _ = running.content
    with pytest.raises(requests.ConnectionError):
        client.call("list")
    service.start()
    assert service.api_url == url
    assert len(client.call("list")["images"]) == 1


def test_a_directory_serves_one_emulator_at_a_time(tmp_path: Path) -> None:
    """The second says so, and the first goes on."""
    with Emulator(tmp_path) as first:
        with pytest.raises(EmulatorError, match="Another emulator"):
            Emulator(tmp_path)
        assert requests.get(f"{first.root_url}plain/", timeout=20).status_code == 200


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    """One line, and the directory is given back."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(EmulatorError, match=f"Port {port}"), Emulator(tmp_path, port=port):
            pass
    with Emulator(tmp_path):
        pass


@pytest.mark.parametrize("planted", ["credentials.toml", "account.sqlite3"])
def test_a_damaged_directory_is_said(tmp_path: Path, planted: str) -> None:
    """Not a traceback, and the lock is given back."""
    (tmp_path / planted).write_bytes(b"\x01 nonsense" * 1000)
    for _ in range(2):
        with pytest.raises(EmulatorError, match="cannot be used"):
            Emulator(tmp_path)


def test_thousands_of_images_are_listed(tmp_path: Path) -> None:
    """Added at once, listed completely, and loaded again."""
    with Emulator(tmp_path) as service:
        ids = service.add_listed([f"image {number}" for number in range(5000)], "toronto")
        assert len(set(ids)) == 5000
    with Emulator(tmp_path) as service:
        assert [image.image_id for image in service.images()] == ids


def test_https_is_served_with_a_certificate(tmp_path: Path) -> None:
    """Contents too, in each framing; a certificate that is not there is said."""
    cert, key = self_signed(tmp_path)
    with Emulator(tmp_path / "data", tls=(cert, key), switches=Switches()) as service:
        image_id = service.add_synthetic("big", "toronto", 3 << 20)
        for framing in ("length", "chunked", "close"):
            service.switches.framing = framing
            answer = requests.get(f"{service.root_url}content/{image_id}", verify=cert, timeout=20)
            assert answer.content == service.content(image_id).read_bytes()
    with pytest.raises(EmulatorError, match="certificate"):
        Emulator(tmp_path / "data", tls=(cert, tmp_path / "none.pem"))
