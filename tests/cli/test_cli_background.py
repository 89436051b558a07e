"""Going on in the background, told by a process of its own: forking needs one without threads."""

from __future__ import annotations

import linecache
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagefs.cli import logs
from imagefs.errors import SetupError

PRELUDE = """
import os, sys, time
from imagefs.cli.background import run_in_background
from imagefs.errors import SetupError
"""


def script(body: str) -> subprocess.CompletedProcess[str]:
    """Run *body* in an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + body], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_caller_returns_when_the_work_is_ready(tmp_path: Path) -> None:
    """The work goes on afterwards, without the terminal, in a session of its own."""
    done = script(f"""
def work(ready):
    ready()
    print("to nobody")
    with open({str(tmp_path / "fifo")!r}, "w") as fifo:
        fifo.write(f"{{os.getcwd()}} {{os.getsid(0) == os.getpid()}}")

os.mkfifo({str(tmp_path / "fifo")!r})
run_in_background(work)
print("returned")
sys.stdout.flush()
print(open({str(tmp_path / "fifo")!r}).read())
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "returned\n/ True\n", "")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('raise SetupError("no such luck: \u00e4")', "no such luck: \u00e4"),
        ('raise KeyError("x")', "'x'"),
        ("os._exit(3)", "without a word"),
        ("raise KeyboardInterrupt", "without a word"),
        ('raise SetupError("x" * 10000)', "x" * 4096),
    ],
)
def test_what_fails_before_it_is_ready_is_told(body: str, message: str) -> None:
    """The caller gets the reason, and nothing goes on."""
    done = script(f"""
def work(ready):
    {body}
try:
    run_in_background(work)
except SetupError as error:
    print(error)
""")
    assert done.returncode == 0
    assert message in done.stdout


@contextmanager
def logging_left_as_it_was() -> Iterator[None]:
    """What the command line sets up for its process ends with the test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:], level = before
        root.setLevel(level)


def test_the_log_is_private_and_of_one_line_a_message(tmp_path: Path) -> None:
    """Control characters from outside are escaped, and tracebacks stay readable."""
    path = tmp_path / "logs" / "imagefs.log"
    with logging_left_as_it_was():
        logs.to_file(path, "debug")
        logging.getLogger("imagefs.x").debug("name %s", "a\nb\x1b[31m\u2028\x9b\ud800")
        logging.getLogger("urllib3.connectionpool").error("quoted from an answer")
        try:
            raise ValueError("boo\n2026-01-01 00:00:00,000 ERROR   forged")
        except ValueError:
            logging.getLogger("imagefs.x").exception("a bug\nin two lines")
    assert path.stat().st_mode & 0o077 == 0
    lines = path.read_text().splitlines()
    assert lines[0].endswith(r"name a\nb\x1b[31m\u2028\x9b\ud800")
    assert lines[1].endswith(r"ERROR   a bug\nin two lines")
    assert lines[2].startswith("Traceback ")
    assert lines[-2] == "  ValueError: boo"
    assert all(line.startswith("  ") for line in lines[3:])


def test_a_traceback_leaves_nothing_in_memory(tmp_path: Path) -> None:
    """Its lines show the sources, which Python keeps unless told otherwise."""
    path = tmp_path / "imagefs.log"
    with logging_left_as_it_was():
        logs.to_file(path, "info")
        linecache.getline(logging.__file__, 1)
        try:
            raise ValueError("a bug in this line")
        except ValueError:
            logging.getLogger("imagefs.x").exception("a bug")
    assert 'raise ValueError("a bug in this line")' in path.read_text()
    assert not linecache.cache


def test_the_log_goes_on_in_a_new_file_after_a_rotation(tmp_path: Path) -> None:
    """As logrotate(8) does it: the old file is renamed and keeps what it has; the new one is as private."""
    path = tmp_path / "imagefs.log"
    log = logging.getLogger("imagefs.x")
    with logging_left_as_it_was():
        logs.to_file(path, "info")
        log.info("before")
        path.rename(tmp_path / "imagefs.log.1")
        log.info("after")
        assert path.read_text().endswith("after\n")
        path.unlink()
        tmp_path.chmod(0o500)
        tmp_path.rename(tmp_path.with_name("elsewhere"))
        log.info("lost, and nothing else fails for it")
        tmp_path.with_name("elsewhere").rename(tmp_path)
        tmp_path.chmod(0o700)
        log.info("again")
    assert (tmp_path / "imagefs.log.1").read_text().endswith("before\n")
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["again"]
    assert path.stat().st_mode & 0o077 == 0


def test_the_journal_gets_a_priority_with_each_line(tmp_path: Path) -> None:
    """Only what systemd itself connected with the journal is written to in its form."""
    done = journal_script(
        "fstat = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{fstat.st_dev}:{fstat.st_ino}'"
    )
    lines = done.stderr.splitlines()
    assert lines[:4] == ["<7>a", "<6>b", "<4>c\\nd", "<3>e"]
    assert lines[4] == "<3>Traceback (most recent call last):"
    assert all(line.startswith("<3>") for line in lines[4:])
    for setting in ("pass", "os.environ['JOURNAL_STREAM'] = '1:2'"):
        assert " INFO    b" in journal_script(setting).stderr


def journal_script(setting: str) -> subprocess.CompletedProcess[str]:
    """Messages of each kind, logged to standard error after *setting*."""
    return script(f"""
import logging
from imagefs.cli import logs
{setting}
logs.to_stderr("debug")
log = logging.getLogger("imagefs")
log.debug("a")
log.info("b")
log.warning("c\\nd")
try:
    raise ValueError
except ValueError:
    log.exception("e")
""")


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    """The reason is told in a sentence."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "log"):
        with pytest.raises(SetupError, match="cannot be written"):
            logs.to_file(path, "info")
