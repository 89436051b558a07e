"""Whether the service seems to be away, so that a dead one is not waited for once per image.

Used on trio's thread by the listing and the details, which report how their calls went.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

from imagefs.account.settings import AccountSettings
from imagefs.errors import MalformedAnswer, Refused, ServiceError


class Outage:
    """Remembers which calls have failed since the last answer.

    One failed call may be the fault of one image, and must not affect the others: it only shortens the deadline of the
    calls that follow. Once calls for two different things have failed with no answer in between, the service is taken
    to be away, and calls fail with the same error, from memory, for a few seconds.
    """

    def __init__(self, settings: AccountSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._failed: set[str] = set()
        self._error: ServiceError | None = None
        self._lasts_until = float("-inf")

    @property
    def suspected(self) -> bool:
        """Whether the last call failed."""
        return bool(self._failed)

    @property
    def deadline_s(self) -> float:
        """The time that the next call for details may take."""
        return self._settings.suspect_deadline_s if self.suspected else self._settings.call_deadline_s

    def check(self) -> None:
        """Raise the last failure while the service is taken to be away."""
        if self._error is not None and len(self._failed) > 1 and self._clock() < self._lasts_until:
            raise copy(self._error)

    def note_answer(self) -> None:
        """The service answered a call."""
        self._failed.clear()
        self._error = None

    def note_failure(self, asked: str, error: ServiceError) -> None:
        """A call for *asked*, an image id or the listing, failed."""
        if isinstance(error, Refused | MalformedAnswer):
            self.note_answer()
            return
        self._failed.add(asked)
        self._error = copy(error)
        self._lasts_until = self._clock() + self._settings.failure_ttl_s
