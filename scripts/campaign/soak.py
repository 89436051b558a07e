"""What the mount's process holds in the course of a long run: memory, descriptors, threads."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from campaign.daemon import Daemon, Vitals

SETTLED_S: Final = 300.0
"""Memory is compared with what it was after so long."""

SPAN_S: Final = 300.0
"""Figures are of so long: what is held depends on the kind of round, and a minute has three or four."""

MOST_GROWTH: Final = 1.05
SLACK: Final = 4
"""So many descriptors and threads more, at the least in such a span, are flat: they come and go with transfers."""


@dataclass(slots=True)
class Soak:
    """Samples of the process, with the seconds since the first."""

    samples: list[tuple[float, Vitals]] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    def sample(self, daemon: Daemon) -> None:
        """Look at the process now."""
        self.samples.append((time.monotonic() - self.began_s, daemon.vitals()))

    def problems(self, settled_s: float = SETTLED_S) -> list[str]:
        """What grew that must not."""
        first, last = self._ends(settled_s)
        found = []
        if last.rss_bytes > MOST_GROWTH * first.rss_bytes:
            found.append(f"memory grew by {last.rss_bytes / first.rss_bytes - 1:.1%}")
        if last.descriptors > first.descriptors + SLACK:
            found.append(f"descriptors grew from {first.descriptors} to {last.descriptors}")
        if last.threads > first.threads + SLACK:
            found.append(f"threads grew from {first.threads} to {last.threads}")
        return found

    def lines(self, settled_s: float = SETTLED_S) -> list[str]:
        """The figures, for people."""
        first, last = self._ends(settled_s)
        most = max((vitals.rss_bytes for _, vitals in self.samples), default=0)
        growth = last.rss_bytes / first.rss_bytes - 1
        minutes = self._begin_s(settled_s) / 60
        return [
            f"memory (RSS): {first.rss_bytes >> 20} MiB after {minutes:.1f} minutes, "
            f"{last.rss_bytes >> 20} MiB at the end ({growth:+.1%}); {most >> 20} MiB at most",
            f"by the minute: {', '.join(str(vitals.rss_bytes >> 20) for vitals in self._by_minute())}",
            f"at the least, descriptors: {first.descriptors}, then {last.descriptors}; "
            f"threads: {first.threads}, then {last.threads}",
        ]

    def _by_minute(self) -> list[Vitals]:
        minutes: defaultdict[int, list[Vitals]] = defaultdict(list)
        for at_s, vitals in self.samples:
            minutes[int(at_s // 60)].append(vitals)
        return [_summary(minutes[minute]) for minute in sorted(minutes)]

    @property
    def _length_s(self) -> float:
        return self.samples[-1][0]

    def _begin_s(self, settled_s: float) -> float:
        return min(settled_s, self._length_s / 2)

    def _ends(self, settled_s: float) -> tuple[Vitals, Vitals]:
        """What was held from *settled_s* on, or in the second half of a shorter run, and at the end."""
        begin_s = self._begin_s(settled_s)
        span_s = min(SPAN_S, (self._length_s - begin_s) / 2)
        settled = [(at_s, vitals) for at_s, vitals in self.samples if at_s >= begin_s]
        early = [vitals for at_s, vitals in settled if at_s <= settled[0][0] + span_s]
        late = [vitals for at_s, vitals in settled if at_s >= self._length_s - span_s]
        return _summary(early), _summary(late)


def _summary(samples: Sequence[Vitals]) -> Vitals:
    """The median of the memory, and the least of the others: what leaks is held at any time, transfers come and go."""
    return Vitals(
        rss_bytes=int(statistics.median(vitals.rss_bytes for vitals in samples)),
        descriptors=min(vitals.descriptors for vitals in samples),
        threads=min(vitals.threads for vitals in samples),
    )
