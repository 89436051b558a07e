"""How the fault campaign takes the longest time for which a program waited for one answer."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mount_point import Mounted
from mount_programs import eventually, started

from campaign import clock, report, stalls
from campaign.clock import CallClock, Late
from campaign.readers import MAPPING_READER
from campaign.stalls import Stalls, Wait, wait_of
from imagefs.emulator import Emulator, Fault

MakeMount = Callable[..., Mounted]

READ = Wait(1, "system call 0", "0 0x3", ("rchar: 0",))
NEXT_READ = Wait(1, "system call 0", "0 0x3", ("rchar: 4096",))


def awaited(pid: int, is_wanted: Callable[[Wait], bool]) -> Wait:
    """What the program sleeps in, once it is what is wanted, in which it then stays."""
    eventually(lambda: (wait := wait_of(pid)) is not None and is_wanted(wait))
    wait = wait_of(pid)
    assert wait is not None
    return wait


def uses(descriptor: int) -> Callable[[Wait], bool]:
    """Whether a program sleeps in a call on that file, and not somewhere on its way there."""
    return lambda wait: wait.place.split()[1] == hex(descriptor)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Where a FIFO is."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def held(fifo: Path) -> Iterator[int]:
    """That FIFO, open for reading and writing, so that programs can open it, too."""
    descriptor = os.open(fifo, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_one_wait_is_one_stall_whatever_is_seen_in_between() -> None:
    """It is taken from the look before it to the look after it. A look at a program that runs tells nothing."""
    found = Stalls(100.0)
    for now_s, wait in enumerate((None, READ, None, None, READ, None), 101):
        found.saw(wait, now_s)
    found.saw(None, 107.0)
    assert found.longest == (106.0 - 101.0, READ.where)


def test_two_calls_are_two_stalls() -> None:
    """Even if one follows the other at once, and is the same but for what was read until then."""
    found = Stalls(100.0)
    for now_s, wait in ((110.0, READ), (120.0, READ), (121.0, NEXT_READ), (150.0, NEXT_READ), (151.0, None)):
        found.saw(wait, now_s)
    assert found.longest == (151.0 - 120.0, NEXT_READ.where)


def test_a_call_that_nobody_saw_took_no_longer_than_the_time_between_two_looks() -> None:
    """It is taken for that long: looks come late on a busy machine."""
    found = Stalls(100.0)
    for now_s, wait in ((101.0, None), (102.0, READ), (103.0, None), (108.5, None), (109.0, NEXT_READ)):
        found.saw(wait, now_s)
    assert found.longest == (108.5 - 103.0, "short wait")


def test_a_read_that_nobody_answers_is_one_wait_and_the_next_another(fifo: Path, held: int) -> None:
    """It may be the same call with the same arguments in both; the kernel has counted the one that ended."""
    with started("cat", fifo) as program:
        first = awaited(program.pid, uses(3))
        time.sleep(0.1)
        assert wait_of(program.pid) == first
        os.write(held, b"x")
        second = awaited(program.pid, lambda wait: wait != first and uses(3)(wait))
        assert second.place.split()[:4] == first.place.split()[:4]
        assert second.counts != first.counts


def test_a_page_of_a_mapped_file_that_does_not_come_is_one_wait(service: Emulator, mount: MakeMount) -> None:
    """No system call shows it, only that no fault ends."""
    image_id = service.add_synthetic("a", "toronto", 1 << 20)
    service.faults.add(Fault("never_answers", "retrieve", image_id, times=None))
    mounted = mount()
    command = (sys.executable, "-S", "-E", "-c", MAPPING_READER, mounted / "toronto/a")
    with started(*command) as program:
        eventually(lambda: service.faults.struck["never_answers"] > 0)
        eventually(lambda: sleeps_on_in_a_page_fault(program.pid))


def sleeps_on_in_a_page_fault(pid: int) -> bool:
    """Whether it is the same after a while; its own code may come from a disk."""
    wait = wait_of(pid)
    time.sleep(0.2)
    return wait is not None and wait.where == "page fault" and wait_of(pid) == wait


def test_a_call_that_is_woken_and_sleeps_again_is_one_wait(fifo: Path, held: int) -> None:
    """Here it writes more than a FIFO holds, and somebody reads some of it."""
    with started("dd", "if=/dev/zero", f"of={fifo}", "bs=1M", "count=1", "status=none") as program:
        first = awaited(program.pid, uses(1))
        switches = switches_of(program.pid)
        for _ in range(4):
            os.read(held, 1 << 16)
        eventually(lambda: switches_of(program.pid) > switches)
        assert awaited(program.pid, uses(1)) == first


def switches_of(pid: int) -> int:
    """How often a process went to sleep of its own will (proc_pid_status(5))."""
    fields = dict(line.partition(":")[::2] for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["voluntary_ctxt_switches"])


def test_a_program_that_runs_or_is_stopped_waits_for_nothing() -> None:
    """Whoever stops it has to answer for that."""
    with started("sh", "-c", "while :; do :; done") as program:
        eventually(lambda: wait_of(program.pid) is None)
        program.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, program.pid, os.WSTOPPED | os.WNOWAIT)
        assert wait_of(program.pid) is None


def test_a_shell_that_waits_for_its_program_is_not_what_is_looked_at(fifo: Path, held: int) -> None:
    """It waits for all of the program's calls; the program for one."""
    with started("sh", "-c", 'cat "$0"; :', fifo) as shell:
        first = awaited(shell.pid, uses(3))
        assert first.pid != shell.pid
        os.write(held, b"x")
        awaited(shell.pid, lambda wait: wait != first and uses(3)(wait))
        os.kill(first.pid, signal.SIGKILL)
        shell.wait(20)


def test_a_program_that_is_gone_waits_for_nothing() -> None:
    """It may end between two looks."""
    with started("true") as program:
        program.wait(20)
        assert wait_of(program.pid) is None


def test_the_clock_has_the_whole_program_and_its_longest_stall() -> None:
    """The stall may be taken for longer than it was, and never for shorter."""
    timed = CallClock()
    done = stalls.run(["sh", "-c", "sleep 0.6; sleep 0.3; echo done"], "look", "sleeper", timed, extra_s=7.0)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")
    whole_s, what = timed.longest_programs["look"]
    stall_s, where = timed.longest["look"]
    assert (what, where.rpartition(" of ")[2]) == ("sleeper", "sleeper")
    assert 0.6 <= stall_s <= whole_s
    assert whole_s >= 0.9
    assert timed.stalls == {7.0: (stall_s, where)}


def test_a_stall_over_its_deadline_is_told_and_ended(monkeypatch: pytest.MonkeyPatch, fifo: Path) -> None:
    """The clock is told once, while the program waits; then it is killed."""
    monkeypatch.setitem(clock.DEADLINES_S, "read", 1.0 - clock.BUSY_S)
    told, timed = heard()
    done = stalls.run(["cat", str(fifo)], "read", "cat", timed)
    assert done.returncode == -signal.SIGKILL
    (late,) = told
    assert (late.kind, late.ended) == ("read", False)
    assert late.what.endswith(" of cat")
    assert late.seconds > 1.0


def test_a_program_without_end_is_told_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though none of its calls takes long."""
    monkeypatch.setattr(stalls, "WHOLE_S", 1.0)
    told, timed = heard()
    done = stalls.run(["sh", "-c", "while :; do sleep 0.01; done"], "read", "loop", timed)
    assert done.returncode == -signal.SIGKILL
    (late,) = told
    assert late.what == "the whole of loop"


def heard() -> tuple[list[Late], CallClock]:
    """A clock, and whatever it tells of late calls."""
    told: list[Late] = []
    timed = CallClock()
    timed.start(told.append)
    timed.stop()
    return told, timed


def test_a_soak_fails_for_a_stall_and_not_for_a_whole_program() -> None:
    """What is granted for what is done to a call is added; what a busy machine takes is not."""
    timed = CallClock()
    timed.program("read", "cat", 140.0, (59.9, "system call 0 of cat"))
    timed.program("read", "cat", 70.0, (69.9, "system call 0 of cat"), extra_s=10.0)
    assert report.stall_problems(timed) == []
    timed.program("copy", "cp", 70.0, (60.1, "system call 326 of cp"))
    timed.program("read", "cat", 140.0, (70.1, "system call 0 of cat"), extra_s=10.0)
    assert report.stall_problems(timed) == [
        "a call was not answered for 60.1 s of 60",
        "a call was not answered for 70.1 s of 70",
    ]
