"""The bytes of the images, as files in one directory.

A file is named by its content's MD5 and size, so that replicas share it. Used by the account and by
whoever adds images, on any thread.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """The identity of some bytes: their MD5 in lower-case hex, and their number."""

    checksum: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        """The name of the file that holds the bytes."""
        return f"{self.checksum}-{self.size_bytes}"


class ContentDirectory:
    """Files of content in *directory*, which is created where it is missing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob("*.part"):
            leftover.unlink()

    def path(self, content: Content) -> Path:
        """Where the bytes of *content* are."""
        return self._directory / content.file_name

    def add(self, blocks: Iterable[bytes | memoryview]) -> Content:
        """Write *blocks* to a file, which appears under its name when it is whole, and tell what it is."""
        digest = hashlib.md5(usedforsecurity=False)
        size_bytes = 0
        part = self._directory / f"{secrets.token_hex(8)}.part"
        try:
            with part.open("wb") as file:
                for block in blocks:
                    file.write(block)
                    digest.update(block)
                    size_bytes += len(block)
            content = Content(digest.hexdigest(), size_bytes)
            part.rename(self.path(content))
        finally:
            part.unlink(missing_ok=True)
        return content

    def keep_only(self, wanted: set[Content]) -> None:
        """Remove every file that is none of *wanted*'s; for the start, when no transfer has one open."""
        names = {content.file_name for content in wanted}
        for path in self._directory.iterdir():
            if path.name not in names and path.suffix != ".part":
                path.unlink(missing_ok=True)


def blocks_of(source: bytes | Path) -> Iterator[bytes]:
    """The bytes of *source*, or of the file that it names, in blocks of at most 1 MiB."""
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def synthetic_blocks(size_bytes: int, seed: int) -> Iterator[memoryview]:
    """*size_bytes* of pseudo-random bytes that *seed* alone decides, in blocks of 1 MiB.

    Each block is one random mebibyte rotated by an odd stride, so that no two pages of the first terabyte are
    equal, and bytes that end up in another place are found out. Much faster than fresh random bytes.
    """
    mebibyte = random.Random(seed).randbytes(BLOCK_BYTES)  # noqa: S311 - reproducible, not secret
    doubled = memoryview(mebibyte + mebibyte)
    for index in range((size_bytes + BLOCK_BYTES - 1) // BLOCK_BYTES):
        start = (index * 2654435761) % BLOCK_BYTES
        yield doubled[start : start + min(BLOCK_BYTES, size_bytes - index * BLOCK_BYTES)]
