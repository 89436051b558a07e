"""The images that are cached: made by the emulator, so that a mount can read what a recorded process has cached."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.server import Wanted, fill
from imagefs.core.models import ContentKey
from imagefs.store.blocks import BLOCK_BYTES, block_range, block_sum

SIZES: Final = {
    "few blocks": 5 * BLOCK_BYTES + 17,
    "one block": 700,
    "some blocks": 9 * BLOCK_BYTES,
    "two segments": 66 * BLOCK_BYTES + 1,
}
"""Bytes of each image, by its name."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image's name, its content, and its key in the cache."""

    name: str
    content: bytes
    key: ContentKey

    def block(self, number: int) -> bytes:
        """The bytes of one block."""
        start, end = block_range(number, len(self.content))
        return self.content[start:end]

    def sums(self, first: int, end: int) -> list[bytes]:
        """The sums of the blocks [first, end)."""
        return [block_sum(self.block(number)) for number in range(first, end)]


def make_account(data_dir: Path) -> dict[str, Path]:
    """An account of the emulator in *data_dir*; the file of each image's content, by its name."""
    return fill(data_dir, Wanted(SIZES, {}))


def load(files: Sequence[tuple[str, Path]]) -> list[Image]:
    """The images of (name, file) pairs."""
    images = []
    for name, file in files:
        content = file.read_bytes()
        checksum = hashlib.md5(content, usedforsecurity=False).hexdigest()
        images.append(Image(name, content, ContentKey(len(content), checksum)))
    return images
