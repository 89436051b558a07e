"""Texts from elsewhere never do anything to whatever shows them, and read well."""

from __future__ import annotations

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
        ("\x1b]0;title\x07\x9b2J", r"\x1b]0;title\x07\x9b2J"),
        ("two\r\nlines\u2028more", r"two\r\nlines\u2028more"),
        ("\u202eback", r"\u202eback"),
        ("lone \ud800", r"lone \ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    """The rest stays."""
    assert printable(text) == shown


@given(st.text())
def test_every_text_can_be_shown(text: str) -> None:
    """On one line, by any stream that takes UTF-8; what could be shown before is left alone."""
    shown = printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert printable(shown) == shown


def test_what_follows_an_error_is_another_sentence() -> None:
    """However the error ends."""
    assert sentence(Unreachable("no answer: it did not answer in time")).endswith("in time.")
    assert sentence("It is gone.") == "It is gone."
    assert sentence("is the API URL right?") == "is the API URL right?"
