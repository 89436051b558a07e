"""Background work that goes on whatever happens in it.

Used by the account's tasks that others rely on, on trio's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from imagefs.account.backoff import growing_pauses
from imagefs.account.surroundings import Surroundings

log = logging.getLogger(__name__)


async def persistently(what: str, work: Callable[[], Awaitable[None]], around: Surroundings) -> None:
    """Do *work* until it ends by itself: where a bug ends it, it is begun anew after a pause that grows.

    *what* begins a sentence of the log.
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
