"""Plain GET serves the same bytes to programs that know nothing of the service."""

from __future__ import annotations

import subprocess
from typing import Any
from urllib.parse import quote

import pytest

from imagefs.emulator import Fault

CONTENT = b"plain bytes" * 1000
NAME = "Größe & <b>/100% 🐧.iso"


@pytest.fixture
def image_id(service: Any) -> str:
    """An image whose name needs care in URLs and in HTML."""
    added: str = service.add_image(NAME, "toronto", CONTENT, time_created="2018-12-17T00:23:09.000000")
    return added


def test_get_and_head_agree(client: Any, service: Any, image_id: str) -> None:
    """The headers are the same, and the body is there only for GET."""
    url = f"{service.root_url}content/{image_id}"
    got, head = client.session.get(url, timeout=20), client.session.head(url, timeout=20)
    assert got.content == CONTENT
    assert head.content == b""
    for name in ("Content-Length", "Last-Modified", "ETag", "Accept-Ranges"):
        assert got.headers[name] == head.headers[name]
    assert got.headers["Last-Modified"] == "Mon, 17 Dec 2018 00:23:09 GMT"


def test_a_range_by_name(client: Any, service: Any, image_id: str) -> None:
    """Any name can be asked for, percent-encoded."""
    url = f"{service.root_url}plain/toronto/{quote(NAME, safe='')}"
    answer = client.session.get(url, headers={"Range": "bytes=3-6"}, timeout=20)
    assert (answer.status_code, answer.content) == (206, CONTENT[3:7])


@pytest.mark.parametrize(
    "path", ["content/1", "plain/atlantis/", "plain/toronto/none", "plain", "../etc/passwd"]
)
def test_what_is_not_there_is_404(client: Any, service: Any, image_id: str, path: str) -> None:
    """Paths are names of images, never of files."""
    assert client.session.get(service.root_url + path, timeout=20).status_code == 404


def test_pending_images_are_not_there(client: Any, service: Any) -> None:
    """Only active images have content."""
    image_id = service.add_image("pending", "toronto", CONTENT, status="saving")
    assert client.session.get(f"{service.root_url}content/{image_id}", timeout=20).status_code == 404
    assert "pending" not in client.session.get(f"{service.root_url}plain/toronto/", timeout=20).text


def test_the_index_escapes_names(client: Any, service: Any, image_id: str) -> None:
    """Each name is a link that leads back to it, and no name is markup."""
    page = client.session.get(f"{service.root_url}plain/toronto/", timeout=20).text
    assert f'href="./{quote(NAME, safe="")}"' in page
    assert "<b>" not in page


def test_faults_and_the_ledger_know_plain_requests(client: Any, service: Any, image_id: str) -> None:
    """They are calls of the action "plain", and need no signature."""
    service.faults.add(Fault("status", "plain", status=500))
    url = f"{service.root_url}content/{image_id}"
    assert [client.session.get(url, timeout=20).status_code for _ in range(2)] == [500, 200]
    assert service.ledger.count("plain") == 2
    assert service.ledger.bytes_retrieved() == 0


def test_rclone_lists_and_reads(service: Any) -> None:
    """Its backend for web directories finds the images with their sizes, and reads them."""
    service.add_image("two.iso", "montreal", CONTENT)
    rclone = ["rclone", "--config", "/dev/null", "--http-url", f"{service.root_url}plain/"]
    listed = subprocess.run(
        [*rclone, "lsf", "-R", "--format", "ps", ":http:"], check=True, capture_output=True
    )
    assert f"montreal/two.iso;{len(CONTENT)}" in listed.stdout.decode().splitlines()
    read = subprocess.run([*rclone, "cat", ":http:montreal/two.iso"], check=True, capture_output=True)
    assert read.stdout == CONTENT
