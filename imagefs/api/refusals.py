"""What the service says when it says no: its texts made safe to show, and the errors they stand for.

The service documents no error codes, only texts, so the texts are matched by their words. Pure; any thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from imagefs.api.signing import PARTIAL_KEY_LENGTH
from imagefs.core.models import Credentials
from imagefs.core.text import printable
from imagefs.errors import (
    CredentialsRefused,
    Overloaded,
    Refused,
    RefusedPermission,
    RefusedQuota,
    RefusedUnknownImage,
    ServiceError,
)

LONGEST_TEXT: Final = 500
"""Characters of a text from outside that a message shows."""

_LEAK_LENGTH: Final = 12
"""A word that has this many consecutive characters of the key counts as a part of it."""

_SEARCHED: Final = 8 * LONGEST_TEXT
"""Characters of a text from outside that are looked at."""

_CUT_WORD: Final = re.compile(r"[^\s\"'{}:,&=<>]*$")
_WORD: Final = re.compile(r"[^\s\"'{}:,&=<>]+")
_SIGNATURE: Final = re.compile(r"[0-9a-fA-F]{64,}")

_RULES: Final[tuple[tuple[type[ServiceError], re.Pattern[str]], ...]] = tuple(
    (error, re.compile(pattern, re.IGNORECASE))
    for error, pattern in (
        (Overloaded, r"rate.?limit|too many (requests|calls)|try again later|temporarily unavailable"),
        (
            RefusedUnknownImage,
            r"\b(invalid|unknown|no such|nonexistent) image(_id)?\b(?!\s+(name|format|location|url|type|size))"
            r"|\bimage(_id)?\b.*\b(not (be )?found|does not exist|doesn't exist|unknown)|^\W*not found\W*$"
            r"|\bimage[ _]id\b.*\binvalid\b|\bno image with\b",
        ),
        (
            CredentialsRefused,
            r"signature|\bapi[ _]?(id|key|partialkey)\b|\bnonce\b|authenticat|credential|unauthori[sz]ed"
            r"|\breplay(ed)?\b|\btimestamp\b|\brequest (has )?expired\b|\bexpired request\b",
        ),
        (
            RefusedPermission,
            r"permission|not (allowed|permitted|authori[sz]ed|(the )?owner|your)|denied|forbidden"
            r"|do(es)? not own|read.?only|public image|belong",
        ),
        (RefusedQuota, r"quota|\blimits?\b|exceed|insufficient|not enough"),
    )
)


class NonceRefused(CredentialsRefused):
    """The nonce was refused: the next second's may be accepted."""


def error_for(text: str) -> type[ServiceError]:
    """The class of error that a refusal's *text* stands for, by its beginning; `Refused` where no rule knows it."""
    begun = text[:_SEARCHED]  # a rule takes the square of a text's length, and nothing else runs meanwhile
    return next((error for error, pattern in _RULES if pattern.search(begun)), Refused)


def is_nonce_refusal(text: str) -> bool:
    """Whether a refusal is about the nonce: a later second may then be accepted."""
    return any(word in text.lower() for word in ("nonce", "replay"))


def redactor(credentials: Credentials) -> Callable[[str], str]:
    """A function that makes a text from outside fit for a message or a log.

    Words that hold a part of the API key and signatures are replaced, what cannot be printed is escaped,
    and the text is cut to `LONGEST_TEXT` characters.
    """
    key = credentials.api_key
    whole = [part for part in (key, key[:PARTIAL_KEY_LENGTH], key[PARTIAL_KEY_LENGTH:]) if part]

    def hidden(match: re.Match[str]) -> str:
        word = match.group()
        starts = range(len(word) - _LEAK_LENGTH + 1)
        return "[hidden]" if any(word[i : i + _LEAK_LENGTH] in key for i in starts) else word

    def redact(text: str) -> str:
        # Cut before the search, which takes long, but never within a word: half of one would not be recognized.
        if len(text) > _SEARCHED:
            text = _CUT_WORD.sub("", text[:_SEARCHED]) or "[hidden]"
        for part in whole:
            text = text.replace(part, "[hidden]")
        text = _SIGNATURE.sub("[hidden]", _WORD.sub(hidden, text))
        text = printable(" ".join(text.split()))
        return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"

    return redact
