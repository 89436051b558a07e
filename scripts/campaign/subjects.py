"""Images whose every version is known: what readers compare with, and what changes are accounted by."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
from dataclasses import dataclass, field
from typing import Final

from imagefs.emulator import Emulator
from imagefs.emulator.wire import Refusal

KIB: Final = 1 << 10
BLOCK: Final = 128 * KIB
"""The unit that the mount fetches and checks, around which sizes are chosen."""


@dataclass(slots=True, eq=False)
class Subject:
    """One image. ``versions`` is every content that it ever had, the latest last; grows before the account changes.

    ``rotten``: something alters its bytes on the way in a manner that only the MD5 of the whole can tell. Then parts
    may be delivered wrong before the proof, and a whole copy may not.
    """

    image_id: str
    name: str
    region: str
    versions: list[bytes]
    rotten: bool = False
    vanished: bool = False
    kinds: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Where it is in the tree, listed or not yet."""
        return f"{self.region}/{self.name}~{self.image_id}"

    @property
    def content(self) -> bytes:
        """What the account holds now."""
        return self.versions[-1]

    def __str__(self) -> str:
        return f"image {self.image_id} {self.region}/{self.name} of {len(self.content)} bytes"


class Subjects:
    """Makes images in the account, and takes them away again. *rng* decides sizes and contents."""

    def __init__(self, emulator: Emulator, rng: random.Random) -> None:
        self._emulator = emulator
        self._rng = rng
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def make(self, size_bytes: int, region: str = "toronto") -> Subject:
        """An active image of that size with content that no other has."""
        with self._lock:
            name, content = f"subject-{next(self._numbers)}", self._rng.randbytes(size_bytes)
        image_id = self._emulator.add_image(name, region, content)
        return Subject(image_id, name, region, [content])

    def some_size(self, rng: random.Random, most_blocks: int) -> int:
        """A size between a byte and so many blocks, often next to a border of blocks."""
        if rng.random() < 0.15:
            return rng.randint(1, 5000)
        blocks = rng.randint(1, most_blocks)
        return max(1, blocks * BLOCK + rng.choice((0, -1, 1, rng.randint(-BLOCK // 2, BLOCK // 2))))

    def make_some(self, rng: random.Random, count: int, most_blocks: int) -> list[Subject]:
        """So many images of all sizes."""
        return [self.make(self.some_size(rng, most_blocks)) for _ in range(count)]

    def change(self, subject: Subject, size_bytes: int) -> None:
        """Give it another content behind the mount's back."""
        with self._lock:
            content = self._rng.randbytes(size_bytes)
        subject.versions.append(content)
        self._emulator.change_content(subject.image_id, content)

    def remove(self, subject: Subject) -> None:
        """Take it out of the account behind the mount's back."""
        subject.vanished = True
        with contextlib.suppress(Refusal):
            self._emulator.remove_image(subject.image_id)

    def discard(self, subject: Subject) -> None:
        """Take it and all that has its bytes out of the account, and off the disk; for the end of a round."""
        for image in self._emulator.images():
            if image.image_id == subject.image_id or image.name.startswith(f"{subject.name}."):
                with contextlib.suppress(Refusal, ValueError):  # one that was never made has no content
                    self._emulator.content(image.image_id).unlink(missing_ok=True)
                with contextlib.suppress(Refusal):
                    self._emulator.remove_image(image.image_id)
