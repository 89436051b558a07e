"""The manual page: made from the help, and fit for man(1)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagefs.cli import commands

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as `scripts/package` makes it."""
    path = tmp_path_factory.mktemp("man") / "imagefs.1"
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS), "SOURCE_DATE_EPOCH": "86400"}
    with path.open("wb") as out:
        subprocess.run(
            [sys.executable, "-m", "distribution.manpage"], env=environment, stdout=out, check=True
        )
    return path


def test_man_has_nothing_to_complain_about(page: Path) -> None:
    """With all warnings of groff."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "80"}
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""


def test_the_page_says_what_the_help_says(page: Path) -> None:
    """Each command with its options and examples, as a reader sees them."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MAN_KEEP_FORMATTING": ""}
    done = subprocess.run(["man", "-l", page], env=environment, capture_output=True, text=True, check=True)
    shown = done.stdout
    assert "1970-01-02" in shown
    for name in commands.list_commands(None):
        assert f"   imagefs {name}" in shown
    for text in (
        "--cache-size SIZE", "Default: 20G.", "imagefs mount [OPTIONS] MOUNTPOINT", "imagefs config show [OPTIONS]",
        "  imagefs mount --profile work --read-only --cache-size 50G ~/work\n", "130 interrupted",
    ):  # fmt: skip
        assert " ".join(text.split()) in " ".join(shown.split())
