"""A planted bug: a place in the code, what is written there instead, and the test that must fail for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug.

    ``code`` stands exactly once in ``imagefs/ROOM.py``, and ``instead`` takes its place.

    ``test`` is a test below the folder of the same name in ``tests``: a file, or ``FILE::TEST``.
    """

    name: str
    room: str
    code: str
    instead: str
    test: str

    @property
    def file(self) -> str:
        """Where it is planted, from the top of the tree."""
        return f"imagefs/{self.room}.py"

    @property
    def test_id(self) -> str:
        """The test as pytest takes it, from the top of the tree."""
        return f"tests/{self.room.partition('/')[0]}/{self.test}"

    def occurrences(self, root: Path) -> int:
        """How often the code is there."""
        return (root / self.file).read_text(encoding="utf-8").count(self.code)
