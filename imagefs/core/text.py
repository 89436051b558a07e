"""Texts made fit to be shown: on a terminal, in a line of a log, in a message. Pure; any thread."""

from __future__ import annotations

import re
from typing import Final

_UNFIT: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f"  # Unicode category Cc, which a terminal obeys
    r"\u2028\u2029"  # Zl and Zp, which end a line
    r"\u202a-\u202e\u2066-\u2069"  # what turns the direction of all that follows (UAX 9)
    r"\ud800-\udfff]"  # lone surrogates, which no stream takes
)


def printable(text: str) -> str:
    r"""*text* on one line, with what does anything but be seen written as Python does: ``\n``, ``\x1b``, ``\u202e``."""
    return _UNFIT.sub(lambda match: ascii(match[0])[1:-1], text)


def sentence(message: object) -> str:
    """*message*, an error or its text, with a full stop where it has none, so that another sentence can follow."""
    text = str(message)
    return text if text.endswith((".", "!", "?")) else f"{text}."
