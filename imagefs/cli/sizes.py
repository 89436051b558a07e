"""Sizes and counts as people write them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

import click

_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)


class Size(click.ParamType[int]):
    """A number of bytes with an optional unit (K, M, G, T, P: powers of 1024), within bounds."""

    name = "SIZE"

    def __init__(self, smallest_bytes: int, largest_bytes: int) -> None:
        self._smallest_bytes = smallest_bytes
        self._largest_bytes = largest_bytes

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises click.BadParameter."""
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a size; write it like 500M or 20G.", param, ctx)
        size_bytes = int(Decimal(match[1]) * _UNITS[match[2].upper()])
        if not self._smallest_bytes <= size_bytes <= self._largest_bytes:
            self.fail(
                f"{value!r} is out of bounds: from {shown(self._smallest_bytes)} to {shown(self._largest_bytes)}.",
                param,
                ctx,
            )
        return size_bytes


def shown(size_bytes: int) -> str:
    """*size_bytes* in the largest unit that leaves a whole number: 20G, 512K."""
    for unit, factor in reversed(_UNITS.items()):
        if size_bytes >= factor and size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return str(size_bytes)


def count_of(number: int, of: str = "image") -> str:
    """*number* of something: ``1 image``, ``2 images``."""
    return f"{number} {of}" if number == 1 else f"{number} {of}s"
