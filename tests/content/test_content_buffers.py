"""Room for pieces of content."""

from __future__ import annotations

import pytest

from imagefs.content.buffers import large_buffer


def test_a_buffer_is_as_large_as_asked_and_can_be_written_to() -> None:
    """And it begins with zeros."""
    buffer = large_buffer(5000)
    assert bytes(buffer) == bytes(5000)
    buffer[4990:] = b"0123456789"
    assert bytes(buffer[4989:]) == b"\x000123456789"


def test_what_there_is_no_room_for_is_a_lack_of_memory() -> None:
    """And no failure of a file."""
    with pytest.raises(MemoryError):
        large_buffer(1 << 62)
