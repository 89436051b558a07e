"""Programs that the campaign starts, and how long each waited for one answer, which only the kernel can tell (proc(5)).

A program makes many calls, and each has a deadline of its own. So it is looked at a few times a second. A stall is the
time for which it slept and nothing moved:

- In a system call: its number, its arguments, the stack and instruction pointers (``/proc/PID/syscall``) are the same,
  and so is what was read and written, and by how many calls (``/proc/PID/io``). The kernel counts a call when it ends:
  two reads in a row are two, and one that is woken and sleeps again is one. Context switches and page faults are not
  looked at: a single read may have many.
- In a page fault, as of a mapped file: the stack and instruction pointers are the same, and so is how many faults are
  done (``min_flt`` and ``maj_flt`` of ``/proc/PID/stat``).

A look at a program that runs or is stopped tells nothing: the time counts only if the same call is seen again later.
A stall is taken from the look before the first that saw it to the look after the last, and for as long as two looks are
apart if none saw it: it comes out up to two looks too long, and never too short. Calls that read and write nothing,
such as open(2), are not counted by the kernel: two that are the same in everything, one right after the other, are
taken for one. Waits for others than the mount are stalls, too.

Programs have one thread here, and one child at a time: then it is the child that is looked at.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from campaign.clock import CallClock, Late, Longest, limit_s

LOOK_S: Final = 0.25

WHOLE_S: Final = 300.0
"""No program takes longer than this in all. It makes up to some dozens of calls, for blocks of a single image, of which
faults hold up a few: this is five that wait as long as they may."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a process sleeps in; equal as long as it is the same call or page fault.

    ``where`` is for people. ``place`` is its ``/proc/PID/syscall``. ``counts`` changes when that call or fault is over.
    """

    pid: int
    where: str
    place: str
    counts: tuple[str, ...]


def wait_of(pid: int) -> Wait | None:
    """What process *pid*, or the child that it waits for, sleeps in; None where that runs, is stopped, or has ended."""
    try:
        while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pid = int(children[0])
        proc = Path(f"/proc/{pid}")
        state, *fields = (proc / "stat").read_text().rpartition(")")[2].split()
        place = (proc / "syscall").read_text() if state in ("S", "D") else "running"
        number = place.split()[0]
        if number == "running":
            return None
        if number == "-1":
            min_flt, maj_flt = fields[6], fields[8]
            return Wait(pid, "page fault", place, (min_flt, maj_flt))
        rchar_wchar_syscr_syscw = (proc / "io").read_text().splitlines()[:4]
        return Wait(pid, f"system call {number}", place, tuple(rchar_wchar_syscr_syscw))
    except (FileNotFoundError, ProcessLookupError):
        return None


class Stalls:
    """The stalls of one program that starts at *now_s* (all times are of one clock, in seconds).

    ``longest`` is how long it waited for one answer at most, and in what.
    """

    def __init__(self, now_s: float) -> None:
        self.longest: Longest = (0.0, "no wait")
        self._wait: Wait | None = None
        self._goes_on = False
        self._began_s = self._looked_s = now_s

    def saw(self, wait: Wait | None, now_s: float) -> None:
        """A look found this; None tells nothing, or is the program's end."""
        self._note(now_s - self._looked_s, "short wait")  # which may have begun and ended since the last look
        if self._wait is not None and (self._goes_on or wait == self._wait):
            self._note(now_s - self._began_s, self._wait.where)
        if wait is not None and wait != self._wait:
            self._wait, self._began_s = wait, self._looked_s
        self._goes_on = wait is not None
        self._looked_s = now_s

    def _note(self, seconds: float, where: str) -> None:
        self.longest = max(self.longest, (seconds, where))


def run(
    command: Sequence[str], kind: str, what: str, clock: CallClock, extra_s: float = 0.0
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, with its output; the rest is as for ``attend``."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return attend(process, kind, what, clock, extra_s)


def attend(
    process: subprocess.Popen[bytes], kind: str, what: str, clock: CallClock, extra_s: float = 0.0
) -> subprocess.CompletedProcess[bytes]:
    """Wait for the end of a program, and time it and its longest stall, as a program of *kind*; *what* says which.

    The clock is told once if a stall is over the deadline of *kind*, for which *extra_s* is granted, or the whole over
    ``WHOLE_S``. A program that has not ended by then is killed.
    """
    began_s = time.monotonic()
    stalls, most_s = Stalls(began_s), limit_s(kind, extra_s)
    is_told = has_ended = False
    output = errors = b""
    while not has_ended:
        with contextlib.suppress(subprocess.TimeoutExpired):
            output, errors = process.communicate(timeout=LOOK_S)
            has_ended = True
        now_s = time.monotonic()
        stalls.saw(None if has_ended else wait_of(process.pid), now_s)
        if not is_told and (late := _late(stalls, most_s, now_s - began_s)) is not None:
            is_told = True
            seconds, how = late
            clock.tell(Late(kind, f"{how} of {what}", seconds, has_ended))
            process.kill()
    seconds, where = stalls.longest
    clock.program(kind, what, now_s - began_s, (seconds, f"{where} of {what}"), extra_s)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def _late(stalls: Stalls, most_s: float, took_s: float) -> Longest | None:
    """What took longer than it may: a stall longer than *most_s*, or the whole."""
    if stalls.longest[0] > most_s:
        return stalls.longest
    return (took_s, "the whole") if took_s > WHOLE_S else None
