"""Who makes a request, as /proc tells."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from imagefs.fuse.callers import Caller


def test_a_thread_has_a_process() -> None:
    """The kernel tells the thread; one that cannot be seen has no process, and is not said to be gone."""
    found: list[Caller] = []
    thread = threading.Thread(target=lambda: found.append(Caller(threading.get_native_id())))
    thread.start()
    thread.join()
    assert Caller(threading.get_native_id()).process == os.getpid()
    assert found[0].thread != os.getpid()
    assert (Caller(0).process, Caller(0).is_gone) == (None, False)


def test_who_started_whom_is_told(tmp_path: Path) -> None:
    """A program's name, cut as the kernel cuts it, then those of its parents; nothing of a process that is not seen."""
    script = tmp_path / "finds-all-the-files"
    script.write_text("#!/bin/sh\necho ready; read line\n")
    script.chmod(0o755)
    with subprocess.Popen([script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        assert list(islice(Caller(program.pid).programs, 2)) == [
            "finds-all-the-f",
            Path("/proc/self/comm").read_text().removesuffix("\n"),
        ]
        program.communicate("go on\n")
    assert list(Caller(program.pid).programs) == list(Caller(0).programs) == []


def test_who_has_ended_is_gone() -> None:
    """Before its parent takes note, and after."""
    assert not Caller(os.getpid()).is_gone
    with subprocess.Popen(["true"]) as program:
        os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        caller = Caller(program.pid)
        assert caller.is_gone
    assert caller.is_gone
    assert caller.process is None


@pytest.fixture
def stopped() -> Iterator[int]:
    """A program that is stopped: signals that it gets wait until it goes on."""
    with subprocess.Popen(["sleep", "100"]) as program:
        program.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)
        yield program.pid
        program.kill()


def test_a_signal_that_waits_is_seen(stopped: int) -> None:
    """One that the program takes, not one that it ignores; where it cannot be told, there may be one."""
    assert not Caller(os.getpid()).has_signal
    assert not Caller(stopped).has_signal
    os.kill(stopped, signal.SIGCHLD)
    assert not Caller(stopped).has_signal
    os.kill(stopped, signal.SIGUSR1)
    assert Caller(stopped).has_signal
    assert Caller(0).has_signal


def test_a_signal_that_nobody_means_is_none() -> None:
    """Go sends it to threads of its own, whatever they do, and its programs take EINTR of files for a failure."""
    words = ["bash", "-c", "trap : URG TERM; echo ready; read line"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        try:
            program.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)
            program.send_signal(signal.SIGURG)
            waiting = Path(f"/proc/{program.pid}/status").read_text()
            assert f"ShdPnd:\t{1 << (signal.SIGURG - 1):016x}\n" in waiting
            assert not Caller(program.pid).has_signal
            program.send_signal(signal.SIGTERM)
            assert Caller(program.pid).has_signal
        finally:
            program.kill()
