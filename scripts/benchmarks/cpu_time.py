"""Which threads and programs used the CPUs while something was measured: what bounds a result.

From /proc (proc(5)), in ticks of usually 10 ms. Used by the experiments for ``--profile``.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import Timing

TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


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

    ``spent`` maps "PROGRAM: THREAD" to its CPU time, ``busy`` is the part of all CPUs' time that was not idle.
    """

    what: str
    wall_s: float = 0.0
    busy: float = 0.0
    spent: dict[str, Cpu] = field(default_factory=dict)

    def add(self, program: str, timing: Timing) -> None:
        """Add a command that has ended."""
        self.spent[program] = Cpu(timing.user_s, timing.system_s)

    def lines(self) -> Iterator[str]:
        """For a person: the busiest first."""
        yield (
            f"{self.what}: {self.wall_s:.2f} s; {os.cpu_count()} CPUs, {self.busy:.0%} busy"
            "    (seconds of CPU: user, kernel)"
        )
        for name, cpu in sorted(self.spent.items(), key=lambda item: -item[1].total_s):
            if cpu.total_s >= 1 / TICKS_PER_S:
                yield f"    {name:<40} {cpu.user_s:7.2f} {cpu.system_s:7.2f}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@contextmanager
def watched(what: str, pids: Mapping[str, int]) -> Iterator[Profile]:
    """A profile of the processes *pids*, by name, that is complete when the block ends."""
    profile = Profile(what)
    before = {program: _Sample.of(pid) for program, pid in pids.items()}
    idle_before_s, all_before_s = _machine_s()
    began_s = time.perf_counter()
    yield profile
    profile.wall_s = time.perf_counter() - began_s
    idle_s, all_s = _machine_s()
    profile.busy = 1 - (idle_s - idle_before_s) / max(all_s - all_before_s, 1 / TICKS_PER_S)
    for program, pid in pids.items():
        for thread, cpu in _Sample.of(pid).since(before[program]).items():
            profile.spent[f"{program}: {thread}"] = cpu


@dataclass(frozen=True, slots=True)
class _Sample:
    """CPU time of a process, and of each of its threads by id, with its name."""

    process: Cpu
    threads: Mapping[int, tuple[str, Cpu]]

    @classmethod
    def of(cls, pid: int) -> _Sample:
        threads = {}
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                threads[int(task.name)] = _stat(task / "stat")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended just now
        return cls(_stat(Path(f"/proc/{pid}/stat"))[1], threads)

    def since(self, before: _Sample) -> dict[str, Cpu]:
        """By thread name, without numbers: threads of one kind together, those that have ended too."""
        spent: defaultdict[str, Cpu] = defaultdict(lambda: NOTHING)
        for thread_id, (name, cpu) in self.threads.items():
            earlier = before.threads.get(thread_id, (name, NOTHING))[1]
            spent[re.sub(r"\W*\d+$", "", name)] += cpu - earlier
        alive = sum(spent.values(), NOTHING)
        spent["(threads that ended)"] = self.process - before.process - alive
        return dict(spent)


def _stat(path: Path) -> tuple[str, Cpu]:
    """Name and CPU time from a ``stat`` file of proc; the name is in parentheses and may hold any character."""
    head, _, rest = path.read_text(encoding="utf-8", errors="replace").rpartition(")")
    user, system = rest.split()[11:13]
    return head.partition("(")[2], Cpu(int(user) / TICKS_PER_S, int(system) / TICKS_PER_S)


def _machine_s() -> tuple[float, float]:
    """Seconds that all CPUs were idle, and in all, since the machine was started."""
    first_line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    # user nice system idle iowait irq softirq steal; guest times are in user and nice already
    ticks = [int(text) for text in first_line.split()[1:9]]
    return (ticks[3] + ticks[4]) / TICKS_PER_S, sum(ticks) / TICKS_PER_S
