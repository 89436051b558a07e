"""Answers that the service compresses although it is asked not to (RFC 9110, 8.4).

Content is never decoded: its lengths and ranges are those of the image. Used by the client, and for answers in place of
content. Pure; any thread.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Final

from imagefs.errors import MalformedAnswer

_WINDOW_BITS: Final = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}
"""zlib's window bits for each coding; ``deflate`` is in use with zlib's header and without."""


def coding_of(headers: Mapping[str, str]) -> str:
    """How an answer's body is encoded, in lower case; empty where it is not."""
    coding = headers.get("Content-Encoding", "").strip().lower()
    return "" if coding == "identity" else coding


def decoded(body: bytes, headers: Mapping[str, str], most_bytes: int) -> bytes:
    """*body* decoded, up to its first *most_bytes*.

    Raises `MalformedAnswer` for an unknown encoding, and for a body that is not encoded as it says, or was cut.
    """
    coding = coding_of(headers)
    if not coding or not body:
        return body
    if coding not in _WINDOW_BITS:
        raise MalformedAnswer("the service's answer is encoded in a way that was not asked for")
    for window_bits in _WINDOW_BITS[coding]:
        stream = zlib.decompressobj(window_bits)
        try:
            plain = stream.decompress(body, most_bytes)
        except zlib.error:
            continue
        if stream.eof or len(plain) == most_bytes:
            return plain
    raise MalformedAnswer(f"the service's answer is not whole, or not {coding}, as it says")
