"""What a range header asks for, against the RFC's words put plainly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imagefs.publish.ranges import Span, Unsatisfiable, wanted_span

ETAG = b'"abc"'
OFFSETS = st.integers(0, 300)


def span(size, header, if_range=None):
    """What is sent of a content of *size* bytes."""
    return wanted_span(size, ETAG, header, if_range)


@given(OFFSETS, OFFSETS, OFFSETS)
def test_first_to_last(size, first, last):
    """Inclusive, and cut at the end; nothing behind the end; the other way round it is no range at all."""
    asked = span(size, b"bytes=%d-%d" % (first, last))
    if last < first:
        assert asked == Span(0, size)
    elif first >= size:
        assert asked == Unsatisfiable()
    else:
        assert asked == Span(first, min(last + 1, size), partial=True)


@given(OFFSETS, OFFSETS)
def test_open_ends(size, number):
    """From an offset on, and the last bytes."""
    rest = Span(number, size, partial=True) if number < size else Unsatisfiable()
    assert span(size, b"bytes=%d-" % number) == rest
    tail = Span(max(0, size - number), size, partial=True) if number and size else Unsatisfiable()
    assert span(size, b"bytes=-%d" % number) == tail


@given(st.binary(max_size=30))
def test_whatever_makes_no_sense_is_the_whole(header):
    """No header makes it fail."""
    asked = span(100, header)
    assert asked == Unsatisfiable() or (isinstance(asked, Span) and 0 <= asked.start < asked.stop <= 100)


def test_several_ranges_or_another_version_is_the_whole():
    """Who goes on with something old gets all of the new."""
    assert span(100, b"bytes=0-1,5-6") == span(100, None) == span(100, b"bytes=5-6", b'"old"') == Span(0, 100)
    assert span(100, b"bytes=5-6", ETAG) == Span(5, 7, partial=True)
