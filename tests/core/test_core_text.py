"""Texts from elsewhere never do anything to whatever shows them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefs.core.text import printable


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
