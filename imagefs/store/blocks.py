"""The units of the cache: blocks, segments and block sums. Pure rules, used on any thread.

A content is cut into blocks, the unit of presence, checksums and durability; the last block may be short.
Segments of whole blocks are the unit of index rows and of eviction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import xxhash

BLOCK_BYTES: Final = 128 * 1024
"""Size of a block: what the kernel asks for in one read unless its readahead was raised."""

SEGMENT_BLOCKS: Final = 64
"""Blocks in a segment (8 MiB)."""

SEGMENT_BYTES: Final = BLOCK_BYTES * SEGMENT_BLOCKS

SUM_BYTES: Final = 8
"""Size of a block sum."""

_BITMAP_BYTES: Final = SEGMENT_BLOCKS // 8


def block_count(size_bytes: int) -> int:
    """How many blocks a content of *size_bytes* has."""
    return -(-size_bytes // BLOCK_BYTES)


def block_range(block: int, size_bytes: int) -> tuple[int, int]:
    """The byte range [start, end) of *block* in a content of *size_bytes*."""
    start = block * BLOCK_BYTES
    return start, min(start + BLOCK_BYTES, size_bytes)


def segment_blocks(segment: int, size_bytes: int) -> tuple[int, int]:
    """The blocks [first, end) of *segment* in a content of *size_bytes*."""
    first = segment * SEGMENT_BLOCKS
    return first, min(first + SEGMENT_BLOCKS, block_count(size_bytes))


def span_bytes(first_block: int, end_block: int, size_bytes: int) -> int:
    """How many bytes the blocks [first_block, end_block) hold."""
    return min(end_block * BLOCK_BYTES, size_bytes) - first_block * BLOCK_BYTES


def block_sum(view: bytes | bytearray | memoryview) -> bytes:
    """The sum of a block's bytes: XXH3, 64 bits, which finds damage but does not withstand forgery."""
    return xxhash.xxh3_64_digest(view)


def pack_flags(flags: bytes | bytearray) -> bytes:
    """Up to 64 flags, one zero or non-zero byte each, as a bitmap; flag 0 is the lowest bit of byte 0."""
    bits = 0
    for position, flag in enumerate(flags):
        if flag:
            bits |= 1 << position
    return bits.to_bytes(_BITMAP_BYTES, "little")


def unpack_flags(bitmap: bytes) -> bytes:
    """The 64 flags, one byte of 0 or 1 each, that `pack_flags` made *bitmap* from."""
    return b"".join([_FLAGS_OF_BYTE[byte] for byte in bitmap])


def runs_of(blocks: Iterable[int]) -> list[tuple[int, int]]:
    """Sorted *blocks* as runs [first, end) of neighbours."""
    runs: list[tuple[int, int]] = []
    for block in blocks:
        if runs and runs[-1][1] == block:
            runs[-1] = (runs[-1][0], block + 1)
        else:
            runs.append((block, block + 1))
    return runs


def segments_of(runs: Iterable[tuple[int, int]]) -> list[int]:
    """The segments that *runs* of blocks touch, in order."""
    touched: set[int] = set()
    for first, end in runs:
        touched.update(range(first // SEGMENT_BLOCKS, -(-end // SEGMENT_BLOCKS)))
    return sorted(touched)


_FLAGS_OF_BYTE: Final = tuple(bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256))
