"""Arguments and options: what is taken, what is refused, and with which status and line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_runs import CANARY, run
from hypothesis import given
from hypothesis import strategies as st

from imagefs import __version__
from imagefs.cli import commands
from imagefs.cli.mount_options import parse_fstab
from imagefs.cli.sizes import Size, shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--help",), ("mount", "umount", "demo", "emulator")),
        (("mount", "--help"), ("MOUNTPOINT", "--credentials", "--cache-size", "20G", "--foreground")),
        (("umount", "-h"), ("MOUNTPOINT", "--lazy")),
        (("--version",), (__version__,)),
    ],
)
def test_help(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Help goes to standard output, with status 0, and names what there is."""
    done = run(capsys, *arguments)
    assert (done.status, done.err) == (0, "")
    assert all(word in done.out for word in words)


def test_help_needs_no_fuse() -> None:
    """A machine without libfuse can still be told what to install."""
    script = "import sys; sys.modules['pyfuse3'] = None; from imagefs.cli import main; sys.exit(main(['mount', '-h']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_command_shows_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Who types the bare name sees what there is."""
    done = run(capsys)
    assert done.status == 2
    assert "Usage:" in done.out + done.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("mont", "x"), "mont"),
        (("mount",), "MOUNTPOINT"),
        (("mount", "x", "y"), "y"),
        (("mount", "x", "--nonsense"), "nonsense"),
        (("mount", "x", "--cache-size", "much"), "500M"),
        (("mount", "x", "--cache-size", "1K"), "out of bounds"),
        (("mount", "x", "--cache-size", "9" * 400), "out of bounds"),
        (("mount", "x", "--cache-size", "-5G"), "size"),
        (("mount", "x", "--umask", "9"), "octal"),
        (("mount", "x", "--umask", "1000"), "octal"),
        (("mount", "x", "--uid", "-1"), "uid"),
        (("mount", "x", "--gid", "4294967295"), "gid"),
        (("mount", "x", "--uid", "root"), "uid"),
        (("mount", "x", "--log-level", "loud"), "loud"),
        (("mount", "x", "-o", "ro,frobnicate"), "frobnicate"),
        (("mount", "x", "-o", "uid=me"), "uid=me"),
        (("mount", "x", "-o", "umask=888"), "umask"),
        (("mount", "x", "-o", "uid"), "uid"),
        (("mount", "x", "-o", "read_only=yes"), "read_only=yes"),
        (("mount", "x", "-o", "cache_size=1K"), "cache_size=1K"),
        (("config", "show", "-o", "log_level=loud"), "loud"),
        (("umount",), "MOUNTPOINT"),
    ],
)
def test_wrong_arguments(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], reason: str) -> None:
    """One line on standard error says what is wrong and where help is; the status is 2."""
    done = run(capsys, *arguments)
    assert (done.status, done.out) == (2, "")
    assert done.line.startswith("imagefs: ")
    assert reason in done.line
    assert "--help" in done.line


def test_unmounting_what_is_not_mounted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Neither an ordinary directory nor another file system's mount point is touched."""
    for path in (tmp_path, Path("/proc"), tmp_path / "missing"):
        done = run(capsys, "umount", str(path))
        assert done.status == 1
        assert "not a mount of imagefs" in done.line


@pytest.mark.parametrize("place", ["file", "missing", "full"])
def test_mounting_where_one_cannot(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, credentials: Path, place: str
) -> None:
    """The mount point is looked at before anything is started; nothing is left behind."""
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    done = run(capsys, "mount", "--credentials", str(credentials), str(tmp_path / place))
    assert done.status == 1
    assert str(tmp_path / place) in done.line


@pytest.mark.parametrize("url", ["http://example.com/api/", "ftp://localhost/", "nonsense", "https://"])
def test_a_service_that_is_not_to_be_trusted(tmp_path: Path, credentials: Path, url: str) -> None:
    """Plain http to another machine, and what is no address, are refused before any call."""
    point = tmp_path / "point"
    point.mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "imagefs",
            "mount",
            "-f",
            "--credentials",
            credentials,
            "--api-url",
            url,
            point,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("imagefs: ")
    assert CANARY[:12] not in line


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("16M", 16 << 20), ("20G", 20 << 30), ("1.5g", 3 << 29), ("64MiB", 64 << 20), ("64 MB", 64 << 20),
        ("1T", 1 << 40), (str(1 << 30), 1 << 30), (" 1G ", 1 << 30),
    ],
)  # fmt: skip
def test_sizes(text: str, size_bytes: int) -> None:
    """Units are powers of 1024, however they are written."""
    assert Size(0, 1 << 60).convert(text, None, None) == size_bytes


@given(st.integers(0, 1 << 59))
def test_a_shown_size_reads_as_itself(size_bytes: int) -> None:
    """What messages show can be typed back."""
    assert Size(0, 1 << 60).convert(shown(size_bytes), None, None) == size_bytes


@given(st.text())
def test_no_text_breaks_the_reading_of_sizes(text: str) -> None:
    """Whatever is typed is a size within its bounds or a usage error."""
    try:
        assert 0 <= Size(0, 1 << 60).convert(text, None, None) <= 1 << 60
    except click.BadParameter:
        return


def test_fstab_options() -> None:
    """The options of an fstab line: ours are taken, those for mount(8) are let be, the last of two wins."""
    assert parse_fstab(()) == {}
    assert parse_fstab(("",)) == {}
    assert parse_fstab(("ro,allow_other", "uid=5,gid=6,umask=027,uid=7")) == {
        "read_only": True, "allow_other": True, "uid": 7, "gid": 6, "umask": 0o027,
    }  # fmt: skip
    assert parse_fstab(("ro,no_delete,rw", "profile=work,cache_size=1G,cache_dir=/a=b")) == {
        "read_only": False, "no_delete": True, "profile": "work", "cache_size": 1 << 30, "cache_dir": Path("/a=b"),
    }  # fmt: skip
    assert parse_fstab(("_netdev,nofail,x-systemd.automount, user,noatime",)) == {}


@given(st.text() | st.sampled_from(["uid", "umask", "log_level", "cache_size", "ro"]).map("{}=".format))
def test_no_text_breaks_the_reading_of_fstab_options(text: str) -> None:
    """Whatever is given is understood or a usage error."""
    try:
        assert isinstance(parse_fstab([text]), dict)
    except click.UsageError:
        return


def test_the_list_of_commands_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command that the help names, without loading it, is there and has a help with its own name."""
    context = click.Context(commands)
    for name in commands.list_commands(context):
        done = run(capsys, name, "--help")
        assert (done.status, done.err) == (0, "")
        assert done.out.startswith(f"Usage: imagefs {name} ")
    assert commands.get_command(context, "nonsense") is None


def test_help_loads_no_command() -> None:
    """What a command needs is loaded by that command alone."""
    script = (
        "import sys; from imagefs.cli import main; main(['--help']); "
        "print(sorted({'trio', 'requests', 'rich', 'sqlite3', 'pyfuse3'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_output_that_cannot_be_written() -> None:
    """As with any other failure there is one line that says why."""
    command = [sys.executable, "-m", "imagefs", "config", "show"]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "imagefs: No space left on device\n")
