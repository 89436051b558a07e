"""Bugs planted in a copy of the tree, and the tests run there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mutation.bug import Bug

ROOT: Final = Path(__file__).resolve().parents[2]
MOST_S: Final = 180.0
"""A test that takes longer than that has found a hang."""

NOT_COPIED: Final = shutil.ignore_patterns("__pycache__", "*.log")
PYTEST_FAILED: Final = 1


class Unfit(Exception):
    """A bug cannot be planted, or its test tells nothing."""


@contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    """A copy of all that tests need, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="imagefs-mutants-") as name:
        top = Path(name)
        for folder in ("imagefs", "tests", "scripts"):
            shutil.copytree(ROOT / folder, top / folder, ignore=NOT_COPIED)
        for file in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / file, top)
        yield top


def misplaced(bugs: tuple[Bug, ...]) -> list[str]:
    """A sentence for each bug whose place is not there exactly once."""
    return [
        f"{bug.name}: its code is {count} times in {bug.file}, and should be there once"
        for bug in bugs
        if (count := bug.occurrences(ROOT)) != 1
    ]


def is_caught(bug: Bug) -> bool:
    """Whether its test fails for *bug*. Raises Unfit where the test cannot be run at all."""
    with copy_of_the_tree() as top:
        path = top / bug.file
        path.write_text(path.read_text(encoding="utf-8").replace(bug.code, bug.instead), encoding="utf-8")
        return fails(top, bug.test_id)


def fails(top: Path, *test_ids: str) -> bool:
    """Whether one of the tests fails, or hangs, in the tree *top*. Raises Unfit where they cannot be run."""
    options = ("-q", "-x", "-p", "no:cacheprovider", "--timeout", f"{MOST_S / 2:g}")
    command = (sys.executable, "-m", "pytest", *options, *test_ids)
    environment = {**os.environ, "PYTHONPATH": str(top), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(top)}
    with subprocess.Popen(
        command,
        cwd=top,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=MOST_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return True
    if process.returncode not in (0, PYTEST_FAILED):
        raise Unfit(f"{' '.join(test_ids)} cannot be run:\n{said[-2000:]}")
    return process.returncode == PYTEST_FAILED
