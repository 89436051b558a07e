"""Who is told of changes of the account. Used by :class:`imagefs.account.Account` on trio's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Subscribers(Generic[T]):
    """Functions that are called with (old, new) for each change of one kind."""

    def __init__(self) -> None:
        self._functions: list[Callable[[T, T], None]] = []

    def add(self, function: Callable[[T, T], None]) -> None:
        """Have *function* called, too."""
        self._functions.append(function)

    def tell(self, old: T, new: T) -> None:
        """Call all of them; a bug in one is logged, and the others are called all the same."""
        for function in self._functions:
            try:
                function(old, new)
            except Exception:
                log.exception("A subscriber to the account's changes failed.")
