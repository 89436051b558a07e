"""One history: the steps that a seed stands for, and what came of them."""

from __future__ import annotations

import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, assume, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import UnsatisfiedAssumption
from hypothesis.stateful import initialize, run_state_machine_as_test

from histories.rules import Histories

LOG_SHOWN_CHARACTERS = 20_000
"""How much of the mount's log is told with what broke."""


@dataclass(slots=True)
class Past:
    """What happened: steps by kind, faults that struck by kind, and how it broke, if it did."""

    seed: int
    steps: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    broken: str | None = None


def live(number: int, steps: int) -> Past:
    """The history of so many steps that the seed *number* stands for, on a mount of its own."""
    past = Past(number)
    began_s = time.monotonic()
    try:
        run_state_machine_as_test(
            seed(number)(_told_to(past)),
            settings=settings(
                max_examples=1,
                stateful_step_count=steps + 1,  # the first one is begin
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    except Exception:
        if past.broken is None:  # it broke neither in a step nor at the end, so it did not begin
            past.broken = traceback.format_exc()
    past.seconds["all"] = time.monotonic() - began_s
    return past


def _told_to(past: Past) -> type[Histories]:
    class Told(Histories):
        def __init__(self) -> None:
            assert past.broken is None, "Once is enough."  # hypothesis would repeat it
            super().__init__()
            self.log = ""
            self.left.callback(self._keep_log)

        @initialize(luck=st.integers(0, 1 << 62))
        def begin(self, luck: int) -> None:
            """The first history of hypothesis is the simplest there is: no steps worth counting."""
            assume(luck)

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                past.steps.update(kind for kind, _ in self.trail)
                past.struck.update(self.service.faults.struck)
                past.seconds.update(self.seconds)
                error = sys.exception()
                if isinstance(error, Exception) and not isinstance(error, UnsatisfiedAssumption):
                    past.broken = self._story(error)

        def _keep_log(self) -> None:
            self.log = self.mounted.log[-LOG_SHOWN_CHARACTERS:]

        def _story(self, error: Exception) -> str:
            steps = "\n".join(f"{kind} {chosen}" for kind, chosen in self.trail)
            return f"{steps}\n{self.log}\n{''.join(traceback.format_exception(error))}"

    return Told
