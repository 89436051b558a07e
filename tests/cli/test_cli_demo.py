"""``imagefs demo``: what it shows, how it ends, and that nothing is left of it. Needs /dev/fuse."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from imagefs.cli.demo_tour import tour
from imagefs.fuse.mounts import mounts

DEMO: Final = [sys.executable, "-P", "-m", "imagefs", "demo"]
LIMIT_S: Final = 90
SOURCE_URL: Final = "http://127.0.0.1/tools.iso"
"""Of the image that is fetched, without the port."""


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """The demo's directory for temporary files; after the test nothing is in it, on it, or about it."""
    place = tmp_path / "temporary"
    place.mkdir()
    yield place
    assert [mount for mount in mounts() if mount.mountpoint.startswith(os.fsencode(tmp_path))] == []
    assert list(place.iterdir()) == []
    assert processes_about(tmp_path) == []


def processes_about(place: Path) -> list[bytes]:
    """The command lines in which *place* is named."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:  # it has ended
            continue
        if os.fsencode(place) in line:
            found.append(line)
    return found


def surroundings(temporary: Path, **changes: str) -> Mapping[str, str]:
    """The demo's environment."""
    return {**os.environ, "TMPDIR": str(temporary), **changes}


def demo(temporary: Path, *arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
    """The demo from beginning to end, without a terminal."""
    return subprocess.run(
        [*DEMO, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        check=False,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=surroundings(temporary, **changes),
    )


def tool(folder: Path, name: str, script: str) -> None:
    """A program of our own called *name*."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def costs(output: str) -> dict[str, str]:
    """What the service saw of each command of the tour."""
    found, command = {}, "mount"
    for line in output.splitlines():
        if line.startswith("$ "):
            command = re.sub(r"http://127\.0\.0\.1:\d+/tools\.iso", SOURCE_URL, line.removeprefix("$ "))
        elif line.startswith("[the service saw: "):
            found[command] = line.removeprefix("[the service saw: ").removesuffix("]")
    return found


def test_the_tour_without_a_terminal(temporary: Path) -> None:
    """It ends with 0, shows every command whose program is there, and each costs what is promised."""
    done = demo(temporary)
    assert done.returncode == 0
    assert done.stderr.endswith("cat: roubaix/being-saved.qcow2: Resource temporarily unavailable\n")
    assert "\x1b" not in done.stdout
    cost = costs(done.stdout)
    shown = [step.command for step in tour(SOURCE_URL) if shutil.which(step.tool)]
    assert list(cost) == ["mount", *shown]
    assert cost["mount"] == "1 list"
    assert cost["ls -l toronto montreal roubaix"].startswith("11 details")
    assert "content" not in cost["df -h ."]
    assert cost["head -c 48 roubaix/large.img | od -A d -t x1"].endswith("1.0 MiB of content")
    assert cost["sha256sum toronto/rescue.iso montreal/rescue.iso"].endswith("1.3 MiB of content")
    assert "content" not in cost["sha256sum toronto/rescue.iso"]
    assert cost["cp roubaix/large.img toronto/ && ls -l toronto/large.img"] == "1 list, 1 replicate"
    assert "content" not in cost["sync toronto/large.img"]
    assert cost["mv toronto/large.img toronto/copy.img"] == "1 rename"
    moving = cost["mv toronto/copy.img montreal/ && sync montreal/copy.img"]
    assert "1 replicate" in moving
    assert "1 delete" in moving
    assert "content" not in moving
    assert cost["rm montreal/copy.img"] == "1 delete"
    assert "1 fetch" in cost[f"echo {SOURCE_URL} > toronto/.fetch"]
    assert re.search(r"^# \S+ \d+ +active +tools\.iso ", done.stdout, re.MULTILINE)
    assert "Arch Linux 2017-02-23 64-bit (ISO)~84473" in done.stdout
    assert "Größe%2F版本 1.0 🐧.iso" in done.stdout


def test_a_place_and_an_account_of_ones_own(temporary: Path, tmp_path: Path) -> None:
    """The mount point that is named is used and stays, and so does the account that is kept."""
    mountpoint = tmp_path / "here"
    mountpoint.mkdir()
    first = demo(temporary, "--once", "--data", tmp_path / "account", mountpoint)
    second = demo(temporary, "--once", "--data", tmp_path / "account", mountpoint)
    assert (first.returncode, second.returncode) == (0, 0)
    assert f"Mounted on:  {mountpoint}\n" in second.stdout
    sources = [re.findall(r"^imagefs:\w+", done.stdout, re.MULTILINE) for done in (first, second)]
    assert sources[0] == sources[1] != []
    assert list(mountpoint.iterdir()) == []


def test_a_tool_that_fails_or_is_missing(temporary: Path, tmp_path: Path) -> None:
    """A missing one is left out with a word; a wrong exit status is shown, and is the demo's own."""
    programs = tmp_path / "programs"
    tool(programs, "df", "exit 3")
    for name in (
        *("sh", "ls", "head", "od", "sha256sum", "cat", "fusermount3"),
        *("cp", "sync", "mv", "rm", "echo", "tail"),
    ):
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    done = demo(temporary, PATH=str(programs))
    assert done.returncode == 1
    assert "[exit status 3 instead of 0]" in done.stdout
    assert "Left out, as they are not installed: getfattr, qemu-img, xorriso." in done.stdout


def test_a_mount_point_that_cannot_be_used(temporary: Path, tmp_path: Path) -> None:
    """One line says why, before anything is made."""
    (tmp_path / "full" / "file").mkdir(parents=True)
    done = demo(temporary, tmp_path / "full")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"imagefs: The mount point {tmp_path / 'full'} is not empty.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_tour(temporary: Path, tmp_path: Path, number: signal.Signals) -> None:
    """It ends the command that runs, and then the demo."""
    programs = tmp_path / "programs"
    # It waits for ever, and is recognised by its arguments.
    tool(programs, "df", f"exec tail -n 0 -f {programs}/df")
    path = f"{programs}:{os.environ['PATH']}"
    with subprocess.Popen(
        DEMO,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=surroundings(temporary, PATH=path),
    ) as process:
        assert process.stdout
        assert process.stderr
        assert any(line == "$ df -h .\n" for line in process.stdout)
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 130
        assert process.stderr.read() == "imagefs: interrupted\n"


class OnTerminal:
    """The demo on a terminal of its own."""

    def __init__(self, temporary: Path) -> None:
        self._terminal, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, *DEMO],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=surroundings(temporary, TERM="xterm"),
        )
        os.close(theirs)
        self.output = ""

    def read_until(self, text: str) -> None:
        """Read until *text* is seen."""
        while text not in self.output:
            self.output += os.read(self._terminal, 65536).decode()

    def press(self, key: bytes) -> None:
        """Type on the keyboard."""
        os.write(self._terminal, key)

    def end(self) -> int:
        """Read what is left; the exit status."""
        try:
            while more := os.read(self._terminal, 65536):
                self.output += more.decode(errors="replace")
        except OSError:  # EIO: nobody has the terminal open any more
            pass
        os.close(self._terminal)
        return self._process.wait(LIMIT_S)


_ON_TERMINAL: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes the terminal the controlling one, so that its keys send signals."""


def test_ctrl_c_on_a_terminal(temporary: Path) -> None:
    """It stays mounted until then, and ends with 0."""
    demo_there = OnTerminal(temporary)
    demo_there.read_until("Ctrl-C ends the demo.")
    [mount] = [mount for mount in mounts() if mount.mountpoint.startswith(os.fsencode(temporary))]
    assert sorted(os.listdir(mount.mountpoint)) == [b"montreal", b"roubaix", b"toronto"]
    demo_there.press(b"\x03")
    assert demo_there.end() == 0
    assert "Unmounted and cleaned up." in demo_there.output
    assert "\x1b[1m$ ls -l" in demo_there.output


def test_unmounted_from_elsewhere(temporary: Path) -> None:
    """The demo then ends by itself, with 0."""
    demo_there = OnTerminal(temporary)
    demo_there.read_until("Ctrl-C ends the demo.")
    [mount] = [mount for mount in mounts() if mount.mountpoint.startswith(os.fsencode(temporary))]
    subprocess.run(
        [sys.executable, "-P", "-m", "imagefs", "umount", os.fsdecode(mount.mountpoint)], check=True
    )
    assert demo_there.end() == 0
    assert "Unmounted from elsewhere." in demo_there.output
