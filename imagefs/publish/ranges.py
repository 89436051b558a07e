"""Which bytes a GET asks for (RFC 9110, 14). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_ONE_RANGE: Final = re.compile(rb"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """The range begins behind the end: 416."""


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from *start* to before *stop*; ``partial`` where a range was asked for, which is a 206."""

    start: int
    stop: int
    partial: bool = False


def wanted_span(
    size_bytes: int, etag: bytes, range_header: bytes | None, if_range: bytes | None
) -> Span | Unsatisfiable:
    """What to send of a content of *size_bytes* whose strong validator is *etag*.

    More than one range, and whatever makes no sense, is answered with the whole, as the RFC allows (14.2).
    """
    whole = Span(0, size_bytes)
    if range_header is None or (if_range is not None and if_range.strip() != etag):
        return whole
    match = _ONE_RANGE.fullmatch(range_header)
    if match is None:
        return whole
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < int(first):
            return whole
    elif last:
        start, stop = max(0, size_bytes - int(last)), size_bytes
    else:
        return whole
    return Span(start, stop, partial=True) if start < stop else Unsatisfiable()
