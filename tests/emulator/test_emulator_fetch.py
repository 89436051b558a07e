"""``image/fetch`` really downloads, and what cannot be downloaded ends killed."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any

import pytest
from web_server import QuietHandler, serving

from imagefs.emulator.fetching import is_fetchable, opener, request_for

CONTENT = b"from elsewhere" * 10_000


class Source(QuietHandler):
    """A web server with an open file, one that asks for credentials, a short one, and a redirect."""

    def do_GET(self) -> None:  # noqa: N802  # http.server prescribes the name
        """Answer by the path."""
        asked_for = "Basic " + base64.b64encode(b"anna:p@ss").decode()
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/open")
            self.end_headers()
        elif self.path == "/open" or (self.path == "/private" and self.headers["Authorization"] == asked_for):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:100])
        else:
            self.send_error(404)


@pytest.fixture
def source() -> Iterator[str]:
    """The host and port of the web server."""
    with serving(Source) as address:
        yield address


def fetched(client: Any, clock: Any, location: str, **params: str) -> dict[str, Any]:
    """The details of the fetched image once they do not change any more."""
    answer = client.call("fetch", region="toronto", name="new", location=location, format="qcow2", **params)
    give_up_s = time.monotonic() + 20
    while time.monotonic() < give_up_s:
        clock.advance(61)
        details: dict[str, Any] = client.details(answer["image_id"])
        if details["status"] in ("active", "killed"):
            return details
        time.sleep(0.002)
    raise AssertionError("the fetch never ended")


@pytest.mark.parametrize("path", ["open", "moved"])
def test_a_file_is_downloaded(client: Any, service: Any, clock: Any, source: str, path: str) -> None:
    """The content is the source's, the name and format the caller's."""
    details = fetched(client, clock, f"http://{source}/{path}", virtio="yes")
    assert (details["status"], details["size"], details["name"]) == ("active", str(len(CONTENT)), "new")
    assert (details["disk_format"], details["hw_disk_bus"]) == ("qcow2", "virtio")
    image = service.images()[0]
    assert client.post("retrieve", image_id=image.image_id).content == CONTENT


def test_credentials_in_the_url_are_used(client: Any, clock: Any, source: str) -> None:
    """Percent-encoded, as a URL has them."""
    assert fetched(client, clock, f"http://anna:p%40ss@{source}/private")["status"] == "active"
    assert fetched(client, clock, f"http://anna:wrong@{source}/private")["status"] == "killed"


@pytest.mark.parametrize("path", ["missing", "short"])
def test_what_cannot_be_downloaded_ends_killed(client: Any, clock: Any, source: str, path: str) -> None:
    """A file that is not there, or not all of it."""
    assert fetched(client, clock, f"http://{source}/{path}")["status"] == "killed"


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"region": "atlantis"}, "invalid region"),
        ({"format": "vmdk"}, "invalid format"),
        ({"virtio": "maybe"}, "invalid virtio"),
        ({"location": "file:///etc/passwd"}, "invalid location"),
        ({"location": "http://"}, "invalid location"),
        ({"location": "http://[broken"}, "invalid location"),
    ],
)
def test_a_fetch_that_makes_no_sense_is_refused(
    client: Any, service: Any, wrong: dict[str, str], error: str
) -> None:
    """No image is made of it."""
    params = {"region": "toronto", "name": "x", "location": "http://127.0.0.1:9/x", "format": "iso", **wrong}
    assert client.call("fetch", **params) == {"success": "no", "error": error}
    assert service.images() == []


def test_ftp_keeps_its_credentials_in_the_url() -> None:
    """The handler for ftp takes them from there; the opener has no handler for files."""
    assert request_for("ftp://anna:secret@host/x").full_url == "ftp://anna:secret@host/x"
    assert is_fetchable("ftp://anna:secret@host/x")
    assert opener().open("file:///etc/passwd") is None
