"""Background work that no bug ends.

Used for those tasks of the account that others rely on, on trio's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from imagefs.account.backoff import growing_pauses
from imagefs.account.surroundings import Surroundings

log = logging.getLogger(__name__)


async def persistently(what: str, work: Callable[[], Awaitable[None]], around: Surroundings) -> None:
    """Run *work* until it returns; when an exception ends it, start it again after a growing pause.

    *what* names it at the beginning of a sentence in the log.
    """
    settings = around.settings
    for pause_s in growing_pauses(settings.retry_first_s, settings.retry_max_s, around.random):
        try:
            await work()
        except Exception:
            log.exception("%s failed by a bug, and is tried again in %.1f s.", what, pause_s)
        else:
            return
        await trio.sleep(pause_s)
