"""Background tasks of the account: they outlive whoever starts them, and no bug in one ends the mount.

Run by :class:`imagefs.account.Account`; its parts start them through their
:class:`imagefs.account.surroundings.Surroundings`, on trio's thread.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

log = logging.getLogger(__name__)


class Tasks:
    """The tasks of one account, which can be started while :meth:`running` is entered."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run tasks beside the block; it is left once all of them have ended, or are cancelled with it."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                yield
        finally:  # not before: until all have ended, one of them may start another
            self._nursery = None

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run *task* beside the others; a bug in it is logged and ends only itself."""

        async def guarded() -> None:
            try:
                await task()
            except Exception:
                log.exception("A background task of the account failed.")

        if self._nursery is None:
            raise RuntimeError("Account.serve is not running")
        self._nursery.start_soon(guarded)
