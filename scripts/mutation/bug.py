"""A planted bug: a place in the code, what is written there instead, and the test that must fail for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bug:
    """One bug.

    ``code`` stands exactly once in ``imagefs/ROOM.py``, and ``instead`` takes its place.

    ``test`` is a test, a file or ``FILE::TEST``, in the place of ``tests`` that ``room`` has in ``imagefs``.
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
        folder, is_inside, _ = self.room.partition("/")
        return f"tests/{folder}/{self.test}" if is_inside else f"tests/{self.test}"

    def occurrences(self, root: Path) -> int:
        """How often the code is there."""
        return (root / self.file).read_text(encoding="utf-8").count(self.code)
