"""Goals, the values of all rounds, and how they are shown: a table for people, JSON for programs."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Comparison = Callable[[float, float], float]

HEADINGS: Final = ("what", "imagefs", "other", "compared [min - max]", "goal", "reached")


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached: ``at_least`` or ``at_most`` so much, of one comparison a round.

    ``ours`` and ``other`` name series of an experiment's values, in ``unit``. ``compare`` makes a round's number of
    them: their ratio, or their difference in ``unit``; where ``other`` is None, ours itself is the number.
    Ratios and times are judged by their median. A ``budget`` (calls, bytes, memory) is judged by its worst round.
    """

    what: str
    ours: str
    unit: str
    other: str | None = None
    compare: Comparison = operator.truediv
    at_least: float | None = None
    at_most: float | None = None
    budget: bool = False

    @property
    def bound(self) -> str:
        """The goal as text."""
        sign, number = (">=", self.at_least) if self.at_least is not None else ("<=", self.at_most)
        return f"{sign} {number:g}{self.unit_of_comparison}"

    @property
    def unit_of_comparison(self) -> str:
        """What follows a number that is compared, as text."""
        return "" if self.other is not None and self.compare is operator.truediv else f" {self.unit}"

    def is_reached_by(self, number: float) -> bool:
        """Whether *number* is within the goal."""
        return (self.at_least is None or number >= self.at_least) and (
            self.at_most is None or number <= self.at_most
        )


@dataclass(frozen=True, slots=True)
class Result:
    """A goal, with the values of all rounds in ``ours`` and ``other``; ``failure`` says why there are none."""

    experiment: str
    goal: Goal
    ours: Sequence[float] = ()
    other: Sequence[float] | None = None
    failure: str | None = None

    @classmethod
    def of(cls, experiment: str, goal: Goal, rounds: Sequence[Mapping[str, float]]) -> Result:
        """The values of *goal* out of those of all *rounds*."""
        other = None if goal.other is None else [values[goal.other] for values in rounds]
        return cls(experiment, goal, [values[goal.ours] for values in rounds], other)

    @property
    def compared(self) -> list[float]:
        """One number a round."""
        if self.other is None:
            return list(self.ours)
        return [self.goal.compare(ours, other) for ours, other in zip(self.ours, self.other, strict=True)]

    @property
    def reached(self) -> bool:
        """Whether the goal is reached."""
        if self.failure is not None:
            return False
        worst = max if self.goal.at_most is not None else min
        return self.goal.is_reached_by((worst if self.goal.budget else statistics.median)(self.compared))

    def row(self) -> tuple[str, ...]:
        """The cells of the table."""
        goal = self.goal
        if self.failure is not None:
            return (goal.what, "failed", "", self.failure, goal.bound, "no")
        compared = self.compared
        spread = f"{_short(statistics.median(compared))}{goal.unit_of_comparison}"
        spread += f" [{_short(min(compared))} - {_short(max(compared))}]"
        ours = f"{_short(statistics.median(self.ours))} {goal.unit}"
        other = f"{_short(statistics.median(self.other))} {goal.unit}" if self.other else ""
        return (goal.what, ours, other, spread, goal.bound, "yes" if self.reached else "no")

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the values of each round, and what became of them."""
        compared = self.compared
        return {
            "experiment": self.experiment,
            "what": self.goal.what,
            "unit": self.goal.unit,
            "ours": {self.goal.ours: list(self.ours)},
            "other": None if self.goal.other is None else {self.goal.other: list(self.other or ())},
            "compared": compared,
            "median": statistics.median(compared) if compared else None,
            "min": min(compared, default=None),
            "max": max(compared, default=None),
            "goal": self.goal.bound,
            "reached": self.reached,
            "failure": self.failure,
        }


def table(results: Iterable[Result]) -> str:
    """All *results*, as a table that is also Markdown."""
    rows = [HEADINGS, *(result.row() for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _short(number: float) -> str:
    """*number* with about three digits, and no exponent."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"
