"""Intents survive JSON."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefs.core.intents import Creation, Deletion, Intent, Remark, dump_intent, load_intent

TEXTS = st.text(st.characters(), max_size=8)
INTENTS = st.one_of(
    st.builds(
        Creation,
        region=TEXTS,
        name=TEXTS,
        began_ns=st.integers(),
        first_names=st.lists(TEXTS, max_size=3).map(tuple),
        source_id=st.none() | TEXTS,
        size_bytes=st.none() | st.integers(),
        checksum=st.none() | TEXTS,
        move=st.booleans(),
        location=st.none() | TEXTS,
        known_ids=st.frozensets(TEXTS, max_size=3),
        image_id=st.none() | TEXTS,
    ),
    st.builds(Deletion, TEXTS, st.none() | TEXTS, st.none() | st.integers(), st.none() | TEXTS),
    st.builds(Remark, st.lists(TEXTS, max_size=3).map(tuple), st.none() | TEXTS, st.booleans(), TEXTS),
)


@given(INTENTS)
def test_an_intent_survives_json(intent: Intent) -> None:
    """Lone surrogates included."""
    assert load_intent(dump_intent(intent)) == intent


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{}", b'["creation",{}]', b'["other",{}]', b'["deletion",[1]]', b"\xff"]
)
def test_what_is_no_intent_is_none(raw: bytes) -> None:
    """A damaged row, or one of another version."""
    assert load_intent(raw) is None
