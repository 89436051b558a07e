"""Which threads and programs used the CPUs while something was measured: what bounds a result.

From /proc (proc(5)), in ticks of usually 10 ms. Used by the experiments for ``--profile``; a thread of its own
samples the names of threads.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from benchmarks.machine import Timing

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
SAMPLE_S: Final = 0.05

_KIND_END: Final = re.compile(r" from .*|\W*\d+$")
"""What tells threads of one kind apart: the task that trio's worker threads run for, and numbers."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of CPU time, in user space and in the kernel."""

    user_s: float
    system_s: float

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(self.user_s + other.user_s, self.system_s + other.system_s)

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.user_s - other.user_s, self.system_s - other.system_s)

    @property
    def total_s(self) -> float:
        """Both together."""
        return self.user_s + self.system_s


NOTHING: Final = Cpu(0.0, 0.0)


@dataclass(slots=True)
class Profile:
    """Where the CPU time went during one measurement.

    ``spent`` maps "PROGRAM: THREAD" to its CPU time; ``busy_s`` is that of all CPUs, whoever kept them busy.
    ``remarks`` are lines on what else was seen.
    """

    what: str
    wall_s: float = 0.0
    busy_s: float = 0.0
    spent: dict[str, Cpu] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def add(self, program: str, timing: Timing) -> None:
        """Add a command that has ended."""
        self.spent[program] = Cpu(timing.user_s, timing.system_s)

    def lines(self) -> Iterator[str]:
        """For a person: the busiest first."""
        cpus = os.cpu_count() or 1
        busy = self.busy_s / self.wall_s / cpus
        yield f"{self.what}: {self.wall_s:.2f} s; {cpus} CPUs, {busy:.0%} busy    (seconds of CPU: user, kernel)"
        for name, cpu in sorted(self.spent.items(), key=lambda item: -item[1].total_s):
            if cpu.total_s >= 1 / TICKS_PER_S:
                yield f"    {name:<40} {cpu.user_s:7.2f} {cpu.system_s:7.2f}"
        rest_s = self.busy_s - sum(cpu.total_s for cpu in self.spent.values())
        yield f"    {'everything else on the machine':<40} {max(0.0, rest_s):7.2f}"
        for remark in self.remarks:
            yield f"    {remark}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@contextmanager
def watched(what: str, pids: Mapping[str, int]) -> Iterator[Profile]:
    """A profile of the processes *pids*, by name, that is complete when the block ends."""
    profile = Profile(what)
    watches = [_Watch(program, pid) for program, pid in pids.items()]
    over = Event()
    sampler = Thread(target=_sample, args=(watches, over), name="sampler")
    busy_before_s = _machine_busy_s()
    began_s = time.perf_counter()
    sampler.start()
    try:
        yield profile
    finally:
        profile.wall_s = time.perf_counter() - began_s
        profile.busy_s = _machine_busy_s() - busy_before_s
        over.set()
        sampler.join()
    for watch in watches:
        profile.spent.update(watch.spent())


def _sample(watches: Sequence[_Watch], over: Event) -> None:
    while not over.wait(SAMPLE_S):
        for watch in watches:
            watch.sample()


class _Watch:
    """The CPU time of one process, by what its threads were named when they used it.

    Pools rename their threads for what they run, so the names are looked at many times.
    """

    def __init__(self, program: str, pid: int) -> None:
        self._program = program
        self._pid = pid
        self._began = _stat(Path(f"/proc/{pid}/stat"))[1]
        self._threads = self._now()
        self._spent: defaultdict[str, Cpu] = defaultdict(lambda: NOTHING)

    def sample(self) -> None:
        """Note what was spent since the last time."""
        for thread_id, (name, cpu) in self._now().items():
            before = self._threads.get(thread_id, (name, NOTHING))[1]
            self._spent[_KIND_END.sub("", name)] += cpu - before
            self._threads[thread_id] = (name, cpu)

    def spent(self) -> dict[str, Cpu]:
        """All that was spent, as "PROGRAM: THREAD", threads of one kind together."""
        self.sample()
        seen = sum(self._spent.values(), NOTHING)
        unseen = _stat(Path(f"/proc/{self._pid}/stat"))[1] - self._began - seen
        # The kernel rounds the sum of all threads in its own way, so that a little less than nothing can remain.
        ended = Cpu(max(0.0, unseen.user_s), max(0.0, unseen.system_s))
        kinds = {**self._spent, "(threads that ended)": ended}
        return {f"{self._program}: {kind}": cpu for kind, cpu in kinds.items()}

    def _now(self) -> dict[int, tuple[str, Cpu]]:
        threads = {}
        for task in Path(f"/proc/{self._pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # it ended just now
                threads[int(task.name)] = _stat(task / "stat")
        return threads


def _stat(path: Path) -> tuple[str, Cpu]:
    """Name and CPU time from a ``stat`` file of proc; the name is in parentheses and may hold any character."""
    head, _, rest = path.read_text(encoding="utf-8", errors="replace").rpartition(")")
    user, system = rest.split()[11:13]
    return head.partition("(")[2], Cpu(int(user) / TICKS_PER_S, int(system) / TICKS_PER_S)


def _machine_busy_s() -> float:
    """Seconds that the CPUs were not idle, all together, since the machine was started."""
    first_line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    user, nice, system, _idle, _iowait, irq, softirq, _steal = map(int, first_line.split()[1:9])
    return (user + nice + system + irq + softirq) / TICKS_PER_S
