"""What was struck, what was survived, and which promise was broken. Any thread."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Break:
    """A promise that was broken: which, exactly how, in which round, and the kinds of faults that struck there."""

    promise: str
    how: str
    round_name: str
    kinds: tuple[str, ...]


class Tally:
    """Counts faults by kind, and holds the breaks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._struck: Counter[str] = Counter()
        self._in_round: Counter[str] = Counter()
        self._round_name = "before the first round"
        self._found: list[tuple[str, str]] = []
        self.breaks: list[Break] = []
        self.planned: set[str] = set()
        self.figures: Counter[str] = Counter()
        self.ratios: dict[str, list[float]] = {}
        self.paces: dict[str, list[tuple[float, int]]] = {}

    def begin(self, round_name: str) -> None:
        """What follows belongs to that round."""
        with self._lock:
            self._round_name = round_name
            self._in_round.clear()

    def plan(self, kinds: Iterable[str]) -> None:
        """These kinds are meant to strike in this campaign; one that never does is a failure."""
        with self._lock:
            self.planned.update(kinds)

    def strike(self, kind: str, times: int = 1) -> None:
        """A fault of *kind* struck so many times."""
        if times > 0:
            with self._lock:
                self.planned.add(kind)
                self._in_round[kind] += times
                self._struck[kind] += times

    def strike_all(self, struck: Mapping[str, int]) -> None:
        """Faults of these kinds struck so many times each."""
        for kind, times in struck.items():
            self.strike(kind, times)

    def broken(self, promise: str, how: str) -> None:
        """A promise was broken in this round."""
        with self._lock:
            self._found.append((promise, how))

    def end(self) -> list[Break]:
        """The breaks of this round; its faults are known by now."""
        with self._lock:
            kinds = tuple(sorted(self._in_round))
            new = [Break(promise, how, self._round_name, kinds) for promise, how in self._found]
            self._found.clear()
            self.breaks += new
            return new

    @property
    def struck(self) -> Counter[str]:
        """Faults by kind so far."""
        with self._lock:
            return Counter(self._struck)

    @property
    def total(self) -> int:
        """All faults so far."""
        return self.struck.total()

    @property
    def missing(self) -> list[str]:
        """Kinds that were meant to strike and never did."""
        struck = self.struck
        return sorted(kind for kind in self.planned if not struck[kind])

    def table(self) -> str:
        """A line for each kind: how often it struck, how often it was survived, and the breaks in its rounds."""
        struck = self.struck
        broken = Counter(kind for found in self.breaks for kind in found.kinds)
        width = max(map(len, self.planned), default=4)
        lines = [f"{'kind':<{width}}  {'struck':>7}  {'survived':>8}  {'broken':>6}"]
        for kind in sorted(self.planned):
            survived = max(0, struck[kind] - broken[kind])
            lines.append(f"{kind:<{width}}  {struck[kind]:>7}  {survived:>8}  {broken[kind]:>6}")
        lines.append(f"{'all':<{width}}  {struck.total():>7}  {'':>8}  {len(self.breaks):>6}")
        return "\n".join(lines)
