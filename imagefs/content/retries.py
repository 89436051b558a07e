"""Whether and when to fetch again after a transfer failed. Policy of one content, on trio's thread."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

from imagefs.content.settings import ContentSettings
from imagefs.errors import (
    MalformedAnswer,
    OutOfResources,
    Overloaded,
    Refused,
    TlsFailure,
    TransferBroken,
    TransferStalled,
    Unreachable,
)

_BROKEN: Final = (TransferBroken, TransferStalled)
_REFUSED: Final = (Refused, MalformedAnswer)
_RETRIED: Final = (Unreachable, OutOfResources, Overloaded, *_BROKEN)


class Retries:
    """Counts failures in a row, and pauses longer after each."""

    def __init__(self, settings: ContentSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._failures = 0
        self._gave_up = False
        self._tried_enough_at = -math.inf
        self._retry_at = 0.0

    @property
    def pausing(self) -> bool:
        """Whether it is too early to fetch anything."""
        return self._clock() < self._retry_at

    @property
    def demanded_only(self) -> bool:
        """Whether nothing is worth fetching but what is waited for: nothing is read ahead until something arrives."""
        return self._gave_up or self._failures >= self._settings.answer_tries

    def arrived(self) -> None:
        """Something new arrived: earlier failures no longer count."""
        self._failures = 0
        self._gave_up = False
        self._tried_enough_at = -math.inf

    def pause_after(self, error: Exception, *, asked_at: float, elsewhere: bool = False) -> float | None:
        """Take account of a failed transfer: seconds until the next try, None where its readers get the error.

        One that was under way when others had used up all tries, by when it was *asked_at*, is not tried again either.
        A refusal concerns one image, whatever its words: it is tried again where another has the content, *elsewhere*.
        """
        if not self.pausing or not self._failures:  # those that fail together count once
            self._failures += 1
        refused = isinstance(error, _REFUSED)
        answered = refused or isinstance(error, _BROKEN)
        used_up = answered and self._failures >= self._settings.answer_tries
        if used_up:
            self._tried_enough_at = self._clock()
        tried_enough = used_up or (answered and asked_at < self._tried_enough_at)
        retried = isinstance(error, _RETRIED) or (refused and elsewhere)
        if tried_enough or isinstance(error, TlsFailure) or not retried:
            self._failures = 0
            self._gave_up = True
            return None
        backoff_s = self._settings.backoff_s
        longest = backoff_s[min(self._failures, len(backoff_s)) - 1]
        pause_s = longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
        if isinstance(error, Overloaded) and error.retry_after_s is not None:
            pause_s = max(pause_s, min(error.retry_after_s, self._settings.retry_after_most_s))
        self._retry_at = max(self._retry_at, self._clock() + pause_s)
        return pause_s
