"""Going on in the background, told by a process of its own: forking needs one without threads."""

from __future__ import annotations

import logging
import subprocess
import sys
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


def test_the_log_is_private_and_of_one_line_a_message(tmp_path: Path) -> None:
    """Control characters from outside are escaped, and tracebacks stay readable."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    path = tmp_path / "logs" / "imagefs.log"
    try:
        logs.to_file(path, "debug")
        logging.getLogger("imagefs.x").debug("name %s", "a\nb\x1b[31m\u2028\x9b\ud800")
        logging.getLogger("urllib3").info("not ours")
        try:
            raise ValueError("boo")
        except ValueError:
            logging.getLogger("imagefs.x").exception("a bug")
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:], level = before
        root.setLevel(level)
    assert path.stat().st_mode & 0o077 == 0
    lines = path.read_text().splitlines()
    assert lines[0].endswith(r"name a\nb\x1b[31m\x2028\x9b\xd800")
    assert lines[1].endswith("ERROR   a bug")
    assert lines[-1] == "ValueError: boo"


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    """The reason is told in a sentence."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "log"):
        with pytest.raises(SetupError, match="cannot be written"):
            logs.to_file(path, "info")
