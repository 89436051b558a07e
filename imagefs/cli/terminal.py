"""Texts for terminals and lines of a log."""

from __future__ import annotations

import re
from typing import Final

_CONTROLS: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def printable(text: str) -> str:
    """*text* with control characters escaped, except newlines: names and texts from the service come through here."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def count_of(number: int, of: str = "image") -> str:
    """*number* of something: ``1 image``, ``2 images``."""
    return f"{number} {of}" if number == 1 else f"{number} {of}s"
