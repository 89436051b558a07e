"""Contents arrive whole, in part, in each framing, and at the rate that is switched on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefs.emulator.answers import FileSpan, content_answer
from imagefs.emulator.content import synthetic_blocks

SIZE_BYTES = (3 << 20) + 777


@pytest.fixture
def image_id(service: Any) -> str:
    """An image of a little more than three mebibytes."""
    added: str = service.add_synthetic("big", "toronto", SIZE_BYTES, seed=5)
    return added


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_the_whole_content_arrives_in_each_framing(
    client: Any, service: Any, image_id: str, framing: str
) -> None:
    """Only the headers differ; the bytes are those of the file, and the ledger counts them."""
    service.switches.framing = framing
    answer = client.post("retrieve", image_id=image_id)
    assert answer.content == service.content(image_id).read_bytes()
    assert ("Content-Length" in answer.headers) is (framing == "length")
    assert answer.headers.get("Transfer-Encoding") == ("chunked" if framing == "chunked" else None)
    assert service.ledger.bytes_retrieved(image_id) == SIZE_BYTES


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=1048570-1048585", 1048570, 1048586),
        ("bytes=3145728-", 3145728, SIZE_BYTES),
        ("bytes=-5", SIZE_BYTES - 5, SIZE_BYTES),
        (f"bytes=10-{SIZE_BYTES * 2}", 10, SIZE_BYTES),
    ],
)
def test_a_range_is_honoured(
    client: Any, service: Any, image_id: str, asked: str, start: int, end: int
) -> None:
    """206, the Content-Range that was asked for, and just these bytes."""
    answer = client.post("retrieve", image_id=image_id, headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE_BYTES}"
    assert answer.content == service.content(image_id).read_bytes()[start:end]
    assert service.ledger.calls[-1].range == asked


def test_a_range_past_the_end_is_not_satisfiable(client: Any, image_id: str) -> None:
    """416, and the size."""
    answer = client.post("retrieve", image_id=image_id, headers={"Range": f"bytes={SIZE_BYTES}-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE_BYTES}")


def test_ranges_can_be_switched_off(client: Any, service: Any, image_id: str) -> None:
    """The whole content comes with 200, as if nothing had been asked."""
    service.switches.range = False
    answer = client.post("retrieve", image_id=image_id, headers={"Range": "bytes=5-6"})
    assert answer.status_code == 200
    assert "Accept-Ranges" not in answer.headers
    assert len(answer.content) == SIZE_BYTES


@given(size=st.integers(0, 50), first=st.none() | st.integers(0, 60), last=st.none() | st.integers(0, 60))
def test_a_range_is_what_the_rfc_says(size: int, first: int | None, last: int | None) -> None:
    """Checked against the bytes that Python's own slices pick (RFC 9110, section 14)."""
    asked = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    answer = content_answer(Path("x"), size, asked)
    malformed = (first is None and last is None) or (first is not None and last is not None and last < first)
    indexes = list(range(size))
    suffix = indexes[-last:] if last else []
    wanted = suffix if first is None else indexes[first : None if last is None else last + 1]
    if malformed:
        assert answer.status == 200
    elif not wanted:
        assert answer.status == 416
    else:
        assert answer.status == 206
        assert answer.body == (FileSpan(Path("x"), wanted[0], wanted[-1] + 1),)


def test_an_empty_image_is_empty(client: Any, service: Any) -> None:
    """No bytes, and the connection goes on."""
    image_id = service.add_image("empty", "toronto", b"")
    for _ in range(2):
        assert client.post("retrieve", image_id=image_id).content == b""


def test_the_connection_is_kept(client: Any, service: Any, image_id: str) -> None:
    """A client that reads answers to their end needs one connection for all of them."""
    service.switches.max_connections = 1
    for _ in range(5):
        assert len(client.post("retrieve", image_id=image_id).content) == SIZE_BYTES
        assert client.details(image_id)["size"] == str(SIZE_BYTES)


def test_more_connections_than_allowed_get_503(client: Any, service: Any, image_id: str) -> None:
    """The first connection goes on."""
    service.switches.max_connections = 1
    held = client.post("retrieve", image_id=image_id)
    assert client.post("list").status_code == 503
    assert len(held.content) == SIZE_BYTES


def test_a_rate_limits_each_connection(client: Any, service: Any, image_id: str) -> None:
    """Half a mebibyte at 5 MiB/s does not come in less than most of a tenth of a second."""
    service.switches.rate_bytes_per_s = 5 << 20
    begun = time.monotonic()
    answer = client.post("retrieve", image_id=image_id, headers={"Range": f"bytes=0-{(512 << 10) - 1}"})
    assert len(answer.content) == 512 << 10
    assert time.monotonic() - begun > 0.07


def test_latency_is_waited_before_each_answer(client: Any, service: Any) -> None:
    """Not less than what is switched on."""
    service.switches.latency_s = 0.03
    begun = time.monotonic()
    client.call("list")
    assert time.monotonic() - begun >= 0.03


def test_too_many_calls_get_429(client: Any, service: Any) -> None:
    """The bucket holds one call and then stays empty; Retry-After is as it was switched."""
    service.switches.rate_limit_per_s = 0.001
    service.switches.retry_after = "17"
    assert client.post("list").status_code == 200
    refused = client.post("list")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "17")


def test_content_that_changes_during_a_transfer_does_not_mix(
    client: Any, service: Any, image_id: str
) -> None:
    """A transfer that has begun ends with the bytes it began with."""
    old = service.content(image_id).read_bytes()
    service.switches.rate_bytes_per_s = 100 << 20
    answer = client.post("retrieve", image_id=image_id)
    service.change_content(image_id, b"new")
    assert answer.content == old
    assert client.post("retrieve", image_id=image_id).content == b"new"


def test_synthetic_content_is_reproducible_and_never_repeats_a_page() -> None:
    """The same seed gives the same bytes; misplaced pages cannot go unnoticed."""
    content = b"".join(synthetic_blocks(5 << 20, seed=3))
    assert content == b"".join(synthetic_blocks(5 << 20, seed=3))
    assert content != b"".join(synthetic_blocks(5 << 20, seed=4))
    pages = {content[start : start + 4096] for start in range(0, len(content), 4096)}
    assert len(pages) == 5 << 20 >> 12
