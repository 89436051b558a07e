"""Blocking calls in worker threads, with unexpected exceptions turned into errors that callers handle.

Used by everything in the account that asks the service or the index, on trio's thread. The machine may have no thread
left, a call may run out of memory or into a bug: none of that may end a task that has work to finish.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import trio

from imagefs.account.protocols import RunSync
from imagefs.errors import ImagefsError, OutOfResources, ServiceError, StoreError, without_frames

log = logging.getLogger(__name__)

T = TypeVar("T")


class Threads:
    """Runs blocking calls by way of :func:`trio.to_thread.run_sync`, or what stands in for it."""

    def __init__(self, run_sync: RunSync) -> None:
        self._run_sync = run_sync

    async def ask(
        self,
        call: Callable[[], T],
        limiter: trio.CapacityLimiter,
        *,
        surprise: type[ServiceError] = ServiceError,
    ) -> T:
        """What *call*, one of the service's client, returns; raises ServiceError only.

        That is OutOfResources where the call never began, and *surprise* for any exception that the client does not
        raise on purpose. A caller who is cancelled leaves the call to its thread.
        """
        try:
            return await self._run(call, limiter, abandon_on_cancel=True)
        except _NotBegun as error:
            raise OutOfResources(f"This machine cannot start a thread for a call now: {error}.") from error
        except ImagefsError:
            raise
        except Exception as error:
            log.exception("A call of the service failed by surprise.")
            raise surprise(f"A call of the service failed by surprise ({type(error).__name__}).") from error

    async def keep(
        self,
        call: Callable[[], T],
        limiter: trio.CapacityLimiter | None = None,
        *,
        abandon_on_cancel: bool = False,
    ) -> T:
        """What *call*, one of the index, returns; raises StoreError where it cannot begin."""
        try:
            return await self._run(call, limiter, abandon_on_cancel=abandon_on_cancel)
        except _NotBegun as error:
            raise StoreError(f"This machine cannot start a thread for the index now: {error}.") from error

    async def _run(
        self, call: Callable[[], T], limiter: trio.CapacityLimiter | None, *, abandon_on_cancel: bool
    ) -> T:
        begun = False

        def begin() -> T:
            nonlocal begun
            begun = True
            try:
                return call()
            except ImagefsError as error:
                raise without_frames(error)  # noqa: B904  # the same error

        try:
            return await self._run_sync(begin, limiter=limiter, abandon_on_cancel=abandon_on_cancel)
        except (RuntimeError, MemoryError) as error:
            if begun:
                raise
            raise _NotBegun(error) from error


class _NotBegun(Exception):
    """There was no thread for the call."""
