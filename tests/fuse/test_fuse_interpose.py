"""The C addition under a real mount: copies arrive, and whoever waits can be interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from dummy_client import CALLS
from dummy_mount import HERE, PATIENCE_S

from imagefs.fuse import interpose
from imagefs.fuse.mounts import mount_at


def answer_of(client: subprocess.Popen[str]) -> str:
    """How the client's system call ended."""
    return client.communicate()[0].rstrip("\n")


def test_a_signal_ends_every_call_that_waits(filesystem):
    """Each gets EINTR but close(2), for which tools take EINTR as success; the next call is answered as ever."""
    ends = {}
    for call in CALLS:
        client = filesystem.client(call)
        filesystem.wait_for(call)
        client.send_signal(signal.SIGUSR1)
        ends[call] = answer_of(client)
    assert ends == {call: "ECANCELED" if call == "flush" else "EINTR" for call in CALLS}


def test_interrupts_of_what_was_answered_are_harmless(filesystem):
    """Signals that arrive before, in and after thousands of calls end some of these, and nothing else."""
    assert answer_of(filesystem.client("storm")) in ("EINTR ok", "ok")
    assert filesystem.run("stat", "-c", "%s", "any") == f"{3 << 30}\n"


def test_a_killed_program_ends_at_once(filesystem):
    """SIGKILL ends it even in calls that the kernel would wait for."""
    client = filesystem.client("open")
    assert filesystem.next_line() == "open"
    client.kill()
    assert client.wait() == -signal.SIGKILL
    assert answer_of(client) == ""


def test_a_request_that_is_gone_when_it_shall_be_received_holds_up_nobody(filesystem):
    """Its program was killed after the kernel had announced it: there is nothing to receive, and all else goes on."""
    filesystem.hesitate()
    with subprocess.Popen(["stat", str(filesystem.mountpoint / "any")], stdout=subprocess.DEVNULL) as program:
        filesystem.wait_for("announced")
        program.kill()
    filesystem.go_on()
    filesystem.wait_for("went on")
    assert filesystem.run("stat", "-c", "%s", "any") == f"{3 << 30}\n"


def test_cp_of_gibibytes_is_one_request(filesystem):
    """A sparse file that says it is not is copied without a read."""
    filesystem.run("cp", "source", "target")
    assert filesystem.next_line() == f"copy source 0 target 0 {3 << 30}"
    filesystem.run("head", "-c", "1", "marker")
    assert filesystem.next_line().startswith("read marker")


def test_a_bug_in_a_copy_is_eio(filesystem):
    """The mount lives on."""
    assert answer_of(filesystem.client("bug")) == "EIO"
    filesystem.run("cp", "source", "target")


def test_requests_take_no_way_round_by_a_pipe(filesystem):
    """What is spliced needs memory of libfuse's own for each request, and is not answered where there is none."""
    filesystem.run("stat", "any")
    assert filesystem.pipes == []


def test_a_mount_that_ends_lets_copies_go(filesystem):
    """A copy that waits is answered, and the mount ends without a complaint."""
    client = filesystem.client("copy_file_range")
    filesystem.wait_for("copy_file_range")
    assert filesystem.end() == 0
    assert answer_of(client) in ("EINTR", "ECONNABORTED", "ENOTCONN")


@pytest.mark.root
@pytest.mark.parametrize(
    ("missing", "reason"),
    [("descriptors", "Too many open files"), ("device", "connection to FUSE is missing")],
)
def test_a_mount_that_cannot_be_served_does_not_stay(tmp_path, missing, reason):
    """The kernel has made it, and then there is no descriptor left for the rest, or its own is not found."""
    command = [sys.executable, str(HERE / "dummy_filesystem.py"), str(tmp_path), missing]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_S)
    stays = mount_at(tmp_path) is not None
    if stays:
        subprocess.run(["fusermount3", "-u", "-z", str(tmp_path)], check=True)
    assert done.returncode == 1
    assert reason in done.stderr
    assert not stays


@pytest.mark.parametrize("module", ["imagefs.app", "imagefs.fuse.requests", "imagefs.fuse.errnos"])
def test_the_addition_comes_before_pyfuse3(module):
    """Else pyfuse3 would not bind to it."""
    program = (
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event in ('import', 'ctypes.dlopen'):\n"
        "        print(arguments[0])\n"
        "sys.addaudithook(hook)\n"
        f"import {module}, pyfuse3\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()
    assert loaded.index(str(interpose.FILE)) < loaded.index("pyfuse3")
