"""The planted bugs of ``scripts/mutants``: each fits the code as it is, and some are found here."""

from __future__ import annotations

import subprocess
from pathlib import Path

MUTANTS = Path(__file__).parents[1] / "scripts" / "mutants"

QUICK = ("the path is not signed",)
"""What takes a moment."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``scripts/mutants``."""
    return subprocess.run([MUTANTS, *arguments], capture_output=True, text=True, timeout=110, check=False)


def test_every_bug_can_be_planted_and_has_its_test() -> None:
    """Its place is there exactly once, its name once in the list, and so is the file of its test."""
    done = run("--list")
    assert done.returncode == 0, done.stderr
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    names = [words[0].strip() for words in lines]
    assert len(names) == len(set(names)) >= 100
    tests = {words[-1].strip().partition("::") for words in lines}
    for file, _, name in tests:
        code = (MUTANTS.parents[1] / file).read_text()
        assert not name or f"def {name}(" in code, (file, name)


def test_a_planted_bug_is_found() -> None:
    """And the checkout is as it was."""
    done = run(*(word for name in QUICK for word in ("--only", name)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[-1] for line in done.stdout.splitlines()[:-1]] == ["caught"] * len(QUICK)


def test_an_unknown_bug_is_refused() -> None:
    """With the status for wrong arguments."""
    done = run("--only", "no such bug")
    assert done.returncode == 2
    assert "no such bug" in done.stderr
