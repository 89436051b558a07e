"""How a mount is doing, as JSON for ``imagefs status``: put together from what its parts know.

Made by the application; called on trio's thread. It waits for nothing but the cache's disk, and not for long.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio

from imagefs import __version__
from imagefs.account import Account
from imagefs.account.work import Work
from imagefs.api.tally import Tally
from imagefs.content.library import Library
from imagefs.content.traffic import Traffic
from imagefs.errors import StoreError
from imagefs.store import CacheDirectory

if TYPE_CHECKING:
    from imagefs.publish import Publisher  # only mounts that publish load it

MAX_BYTES: Final = 60_000
"""An extended attribute has 64 KiB at most (XATTR_SIZE_MAX, xattr(7))."""

MAX_ROWS: Final = 32
MAX_TEXT: Final = 200
LAST_ERRORS: Final = 10

DISK_S: Final = 2.0
"""How long the cache's disk may take to tell its free space; while it hangs, the rest is told without."""


@dataclass(frozen=True, slots=True)
class MountFacts:
    """What does not change while it is mounted. ``began_s`` is seconds since the epoch."""

    mountpoint: str
    account: str
    api_url: str
    cache_dir: str
    read_only: bool
    no_delete: bool
    began_s: float


class LastErrors(logging.Handler):
    """Remembers the last warnings and errors of the log; any thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._records: deque[dict[str, Any]] = deque(maxlen=LAST_ERRORS)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep *record*."""
        text = record.getMessage()[:MAX_TEXT]
        self._records.append({"at": record.created, "level": record.levelname.lower(), "text": text})

    def rows(self) -> list[dict[str, Any]]:
        """What was kept, the latest last."""
        return list(self._records)


@contextmanager
def remembering_errors() -> Iterator[LastErrors]:
    """Remember what imagefs logs, for as long as the context lasts."""
    errors, logger = LastErrors(), logging.getLogger("imagefs")
    logger.addHandler(errors)
    try:
        yield errors
    finally:
        logger.removeHandler(errors)


@dataclass(frozen=True, slots=True)
class Status:
    """The parts that are asked; there is no ``publisher`` where nothing is uploaded."""

    facts: MountFacts
    account: Account
    library: Library
    cache: CacheDirectory
    tally: Tally
    traffic: Traffic
    errors: LastErrors
    disk_threads: trio.CapacityLimiter
    publisher: Publisher | None = None
    wall_s: Callable[[], float] = time.time

    async def __call__(self) -> bytes:
        """The status as JSON of at most MAX_BYTES; where it would be longer, the longest lists are cut."""
        cache = await self._cache()
        facts, calls = self.facts, self.tally.calls
        transfers, work = self._transfers(), self.account.work()
        status = {
            "version": __version__,
            "pid": os.getpid(),
            "now": self.wall_s(),
            "mountpoint": facts.mountpoint,
            "account": facts.account,
            "api_url": facts.api_url,
            "read_only": facts.read_only,
            "no_delete": facts.no_delete,
            "mounted": facts.began_s,
            "service": {
                "reachable": calls.reachable,
                "since": calls.since_s,
                "requests": calls.sent,
                "unanswered": calls.unanswered,
            },
            "cache": cache,
            "read": self.traffic.read_bytes,
            "fetched": self.traffic.fetched_bytes,
            "hit_rate": self.traffic.hit_rate,
            "open": sum(content.open_readers for content in self.library.contents()),
            "transfers": transfers[:MAX_ROWS],
            "uploads": self._uploads(),
            "pending": list(map(_work_row, work[:MAX_ROWS])),
            "more": {"transfers": max(0, len(transfers) - MAX_ROWS), "pending": max(0, len(work) - MAX_ROWS)},
            "errors": self.errors.rows(),
        }
        return fitting(status)

    async def _cache(self) -> dict[str, Any]:
        usage: dict[str, Any] = {"dir": self.facts.cache_dir}
        with trio.move_on_after(DISK_S), suppress(StoreError):  # a failing disk: the log says so
            found = await trio.to_thread.run_sync(
                self.cache.usage, abandon_on_cancel=True, limiter=self.disk_threads
            )
            usage |= {
                "cached": found.cached_bytes,
                "limit": found.max_bytes,
                "free": found.free_bytes,
                "contents": found.contents,
            }
        return usage

    def _transfers(self) -> list[dict[str, Any]]:
        rows = []
        for content in self.library.contents():
            if content.is_fetching:
                image = self.account.shown(content.image_id)
                rows.append(
                    {
                        "image_id": content.image_id,
                        "name": image.name[:MAX_TEXT] if image else "",
                        "region": image.region[:MAX_TEXT] if image else "",
                        "size": content.size_bytes,
                        "cached": self.library.cached_bytes(content.key),
                    }
                )
        return rows

    def _uploads(self) -> list[dict[str, Any]]:
        return [
            {
                "image_id": offer.image_id,
                "name": offer.name[:MAX_TEXT],
                "region": offer.region,
                "size": offer.size_bytes,
                "sent": offer.sent.total_bytes,
                "requests": offer.requests,
            }
            for offer in (self.publisher.offers if self.publisher else ())
        ]


def _work_row(work: Work) -> dict[str, Any]:
    return {
        "kind": work.kind,
        "image_id": work.image_id,
        "source_id": work.source_id,
        "name": work.name[:MAX_TEXT],
        "region": work.region[:MAX_TEXT],
        "since": work.began_s,
    }


def fitting(status: dict[str, Any]) -> bytes:
    """*status* as JSON, with its lists halved until it fits."""
    while True:
        raw = json.dumps(status, separators=(",", ":")).encode("ascii")
        lists = [rows for rows in status.values() if isinstance(rows, list) and rows]
        if len(raw) <= MAX_BYTES or not lists:
            return raw
        longest = max(lists, key=lambda rows: len(json.dumps(rows)))
        del longest[len(longest) // 2 :]
