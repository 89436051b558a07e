"""What the scripted peer takes for a request."""

from __future__ import annotations

import io

import pytest
from api_peer import read_request

WHOLE = b"POST /api/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\na=bcd"


def test_a_whole_request_is_read() -> None:
    """Its form is what was sent."""
    request = read_request(io.BytesIO(WHOLE))
    assert request is not None
    assert (request.path, request.form) == ("/api/", {"a": "bcd"})


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_a_request_that_was_cut_is_none(length: int) -> None:
    """A client gives up at its deadline wherever it has come to, and then nobody waits for an answer."""
    assert read_request(io.BytesIO(WHOLE[:length])) is None
