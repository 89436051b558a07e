"""A short fault campaign: what ``scripts/chaos`` does for half an hour, for a minute, always with the same choices."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
ROUNDS = "transfers,changes,damaged,service,images,interrupts"
"""Among them each promise is tried. The deadlines are tried beside them all, and take a minute."""

LEAST_KINDS = 25
LEAST_FAULTS = 100


@pytest.mark.root
@pytest.mark.timeout(900)
def test_no_promise_breaks_while_faults_strike(tmp_path):
    """Faults of many kinds strike a mount that is read and changed; no byte is wrong, no image lost, no call hangs."""
    command = [sys.executable, "-m", "campaign", "--seed", "5", "--once", "--rounds", ROUNDS]
    done = subprocess.run(
        [*command, "--dir", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("No promise was broken.\n")
    faults, kinds = re.search(r"^(\d+) faults of (\d+) kinds", done.stdout, re.MULTILINE).groups()
    assert int(faults) >= LEAST_FAULTS
    assert int(kinds) >= LEAST_KINDS
    assert re.search(r"^longest stall: \d+\.\d s of 60: \S", done.stdout, re.MULTILINE)
