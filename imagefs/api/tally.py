"""How the calls went, as the status shows it: how many, how many failed, and since when the service answers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Calls:
    """The calls so far. ``reachable``: whether the last one was answered, in whatever way; None before the first.

    ``since_s`` is since when that has been so, in seconds since the epoch.
    """

    sent: int = 0
    unanswered: int = 0
    reachable: bool | None = None
    since_s: float = 0.0


class Tally:
    """Counts calls; any thread. *wall_s* tells seconds since the epoch."""

    def __init__(self, wall_s: Callable[[], float]) -> None:
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._calls = Calls()

    @property
    def calls(self) -> Calls:
        """What was counted until now."""
        return self._calls

    def note(self, answered: bool) -> None:
        """One more call, *answered* or not."""
        with self._lock:
            calls = self._calls
            since_s = calls.since_s if calls.reachable is answered else self._wall_s()
            self._calls = replace(
                calls,
                sent=calls.sent + 1,
                unanswered=calls.unanswered + (not answered),
                reachable=answered,
                since_s=since_s,
            )
