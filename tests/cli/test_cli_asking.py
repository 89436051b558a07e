"""The process that touches a mount for a command ends with it, however that ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from imagefs.cli.asking import ask, following

SCRIPT = """
import sys, time
from imagefs.cli.asking import following
with following("read", sys.argv[1]) as probe:
    print(probe.pid, flush=True)
    time.sleep(600)
"""


def test_a_row_for_each_path(tmp_path: Path) -> None:
    """What failed is told by its errno, and does not keep the others from being asked."""
    (tmp_path / "file").write_text("x")
    rows = ask("read", tmp_path / "file", tmp_path / "missing", within_s=60.0)
    assert {row["path"] for row in rows} == {0, 1}
    # The file is no image: it has no attribute that tells how much is cached.
    assert all("errno" in row for row in rows)


def test_the_probe_ends_with_its_context(tmp_path: Path) -> None:
    """One that waits, for ever as here, is ended."""
    os.mkfifo(tmp_path / "fifo")
    with following("read", tmp_path / "fifo") as probe:
        assert probe.poll() is None
    assert probe.returncode == -signal.SIGKILL


def test_the_probe_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    """Nothing is left behind of a command that could not clean up."""
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "fifo")], stdout=subprocess.PIPE
    ) as command:
        assert command.stdout is not None
        probe = os.pidfd_open(int(command.stdout.readline()))
        command.kill()
    poll = select.poll()
    poll.register(probe, select.POLLIN)
    assert poll.poll(60_000)
    os.close(probe)
