"""Texts from elsewhere never do anything to whatever shows them, and read well."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefs.core.text import printable, sentence
from imagefs.errors import Unreachable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("größe, 版本 1.0 💿", "größe, 版本 1.0 💿"),
        ("می\u200cخواهم, 👨\u200d👩\u200d👧", "می\u200cخواهم, 👨\u200d👩\u200d👧"),
        ("\x1b]0;title\x07\x9b2J", r"\x1b]0;title\x07\x9b2J"),
        ("two\r\nlines\u2028more", r"two\r\nlines\u2028more"),
        ("\u202eback\u2066", r"\u202eback\u2066"),
        ("lone \ud800", r"lone \ud800"),
    ],
)
def test_what_does_anything_is_escaped(text: str, shown: str) -> None:
    """All that is only seen, and what joins it, stays."""
    assert printable(text) == shown


@given(st.text())
def test_every_text_can_be_shown(text: str) -> None:
    """On one line, by any stream that takes UTF-8; what can be shown already is left alone."""
    shown = printable(text)
    assert not {"Cc", "Cs", "Zl", "Zp"}.intersection(map(unicodedata.category, shown))
    assert printable(shown) == shown


def test_what_follows_an_error_is_another_sentence() -> None:
    """However the error ends."""
    assert sentence(Unreachable("no answer: it did not answer in time")).endswith("in time.")
    assert sentence("It is gone.") == "It is gone."
    assert sentence("is the API URL right?") == "is the API URL right?"
