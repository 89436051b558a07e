"""Background tasks that cannot take the mount down, and that can be waited for. On trio's thread.

Used by contents: an exception in a task of the mount's nursery would end the mount.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVarTuple, Unpack

import trio

logger = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")


class Background:
    """The tasks of one kind that one content has running.

    *spawn* starts a task; *failed* is called with an exception that left a task, after it was logged.
    """

    def __init__(self, spawn: Callable[..., None], failed: Callable[[Exception], None]) -> None:
        self._spawn = spawn
        self._failed = failed
        self._running = 0
        self._idle = trio.Event()
        self._idle.set()

    def start(self, task: Callable[[Unpack[Ts]], Awaitable[None]], *args: *Ts) -> None:
        """Run *task* beside all others."""
        if not self._running:
            self._idle = trio.Event()
        self._running += 1
        self._spawn(self._run, task, args)

    @property
    def is_idle(self) -> bool:
        """Whether none is running."""
        return not self._running

    async def idle(self) -> None:
        """Wait until none is running."""
        await self._idle.wait()

    async def _run(self, task: Callable[..., Awaitable[None]], args: tuple[object, ...]) -> None:
        try:
            await task(*args)
        except Exception as error:
            logger.exception("A background task of a content failed.")
            self._failed(error)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
