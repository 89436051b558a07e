"""Blocks, segments, bitmaps and names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefs.core.models import ContentKey
from imagefs.store.blocks import (
    BLOCK_BYTES,
    SEGMENT_BLOCKS,
    block_count,
    block_range,
    pack_flags,
    runs_of,
    segment_blocks,
    segments_of,
    span_bytes,
    unpack_flags,
)
from imagefs.store.layout import content_name, content_path, is_content_name


@given(st.integers(0, 40 * BLOCK_BYTES * SEGMENT_BLOCKS))
def test_blocks_tile_a_content(size_bytes: int) -> None:
    """The blocks cover every byte once, and the segments every block once."""
    ranges = [block_range(block, size_bytes) for block in range(block_count(size_bytes))]
    assert [start for start, _ in ranges] == [0, *(end for _, end in ranges)][: len(ranges)]
    assert (ranges[-1][1] if ranges else 0) == size_bytes
    segments = [segment_blocks(number, size_bytes) for number in segments_of([(0, block_count(size_bytes))])]
    assert [block for first, end in segments for block in range(first, end)] == list(range(len(ranges)))


@given(st.integers(1, 5 * BLOCK_BYTES), st.data())
def test_a_span_has_the_bytes_of_its_blocks(size_bytes: int, choice: st.DataObject) -> None:
    """A span's size is the sum of its blocks' sizes."""
    first = choice.draw(st.integers(0, block_count(size_bytes) - 1))
    end = choice.draw(st.integers(first + 1, block_count(size_bytes)))
    sizes = [stop - start for start, stop in (block_range(block, size_bytes) for block in range(first, end))]
    assert span_bytes(first, end, size_bytes) == sum(sizes)


@given(st.lists(st.booleans(), min_size=SEGMENT_BLOCKS, max_size=SEGMENT_BLOCKS))
def test_flags_survive_the_bitmap(flags: list[bool]) -> None:
    """Packing and unpacking gives the same flags."""
    assert unpack_flags(pack_flags(bytes(flags))) == bytes(flags)


@given(st.sets(st.integers(0, 300)))
def test_runs_hold_the_same_blocks(blocks: set[int]) -> None:
    """Runs are the blocks again, without two that touch; their segments are the blocks' segments."""
    runs = runs_of(sorted(blocks))
    assert {block for first, end in runs for block in range(first, end)} == blocks
    assert all(before[1] < after[0] for before, after in zip(runs, runs[1:], strict=False))  # noqa: RUF007  # reads as drawn
    assert segments_of(runs) == sorted({block // SEGMENT_BLOCKS for block in blocks})


def test_names_come_from_checksum_or_id() -> None:
    """A content is named after its checksum, or else after a digest of its image's id, and its size."""
    assert content_name(ContentKey(7, "ab" * 16)) == f"md5-{'ab' * 16}-7"
    assert content_path(content_name(ContentKey(7, "ab" * 16)))[0] == "ab"
    named_by_id = content_name(ContentKey(0, None, "../../etc/\udc80"))
    assert is_content_name(named_by_id)
    assert named_by_id.startswith("id-")


@pytest.mark.parametrize(
    "key",
    [
        ContentKey(-1, "0" * 32),
        ContentKey(1, "../../../../../../../etc/passwd0"),
        ContentKey(1, "A" * 32),
        ContentKey(1, "0" * 32 + "\n"),
        ContentKey(1, ""),
        ContentKey(1, None),
    ],
)
def test_malformed_keys_make_no_name(key: ContentKey) -> None:
    """Nothing but a sound key becomes a path."""
    with pytest.raises(ValueError, match="a content"):
        content_name(key)
