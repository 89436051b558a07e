"""Mounting on demand: an automounter watches the mount point, and mounts when somebody walks in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mount_point import Mounted
from mount_programs import attempt, run, text

from imagefs.fuse.mounts import mounts

pytestmark = [pytest.mark.root, pytest.mark.autofs]

AUTOMOUNTER = Path(__file__).with_name("automounter.py")


@contextmanager
def automounter(mounted: Mounted) -> Iterator[subprocess.Popen[bytes]]:
    """Mounts *mounted* when somebody walks in, in a session of its own, as systemd has one."""
    command = [sys.executable, AUTOMOUNTER, mounted.path, *mounted.command]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process
        attempt("fusermount3", "-u", mounted.path)
        process.stdin.close()
        assert process.wait(60) == 0


def test_whoever_walks_in_sees_the_images(service, prepare):
    """Nothing is mounted before, and nobody is held up: not the mount either, in its new session."""
    service.add_image("a", "toronto", b"abc")
    mounted = prepare()
    with automounter(mounted):
        assert types_at(mounted.path) == ["autofs"]
        assert run("cat", mounted / "toronto/a") == b"abc"
        assert types_at(mounted.path) == ["autofs", "fuse.imagefs"]
        run("fusermount3", "-u", mounted.path)
        assert text("ls", mounted / "toronto") == "a"


def test_mounting_by_hand_what_an_automounter_has(service, prepare):
    """The look at the mount point has it mounted, and a second mount on top is refused."""
    mounted = prepare()
    with automounter(mounted):
        done = mounted.try_mount()
        assert done.returncode == 1
        assert b"already mounted" in done.stderr
        assert types_at(mounted.path) == ["autofs", "fuse.imagefs"]


def test_a_mount_that_fails_is_told_to_who_walks_in(workspace, prepare):
    """Nobody waits for what does not come."""
    mounted = prepare(credentials=workspace / "missing")
    with automounter(mounted):
        done = attempt("ls", mounted.path)
        assert done.returncode != 0
        assert types_at(mounted.path) == ["autofs"]


def types_at(path: Path) -> list[str]:
    """The types of what is mounted on *path*, the lowest first."""
    return [mount.filesystem_type for mount in mounts() if mount.mountpoint == str(path).encode()]
