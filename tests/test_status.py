"""What a mount says about itself: the counts, what is under way, and that it always fits."""

from __future__ import annotations

import json
import logging
import threading
from types import SimpleNamespace
from typing import Any, cast

import trio
import trio.testing

from imagefs.account import Account
from imagefs.api.tally import Tally
from imagefs.content.library import Library
from imagefs.content.traffic import Traffic
from imagefs.status import (
    DISK_S,
    MAX_BYTES,
    MAX_TEXT,
    LastErrors,
    MountFacts,
    Status,
    fitting,
    remembering_errors,
)
from imagefs.store import CacheDirectory, CacheUsage


def test_calls_are_counted() -> None:
    """The time is that of the last change between answered and not."""
    now_s = iter((1.0, 2.0, 3.0))
    tally = Tally(lambda: next(now_s))
    assert tally.calls.reachable is None
    for answered in (True, True, False, False, True):
        tally.note(answered)
    calls = tally.calls
    assert (calls.sent, calls.unanswered, calls.reachable, calls.since_s) == (5, 2, True, 3.0)


def test_the_hit_rate() -> None:
    """What was read and not fetched; never below nothing, and unknown before anything was read."""
    assert Traffic().hit_rate is None
    assert Traffic(read_bytes=4, fetched_bytes=1).hit_rate == 0.75
    assert Traffic(read_bytes=4, fetched_bytes=8).hit_rate == 0.0


def test_the_last_errors_are_remembered() -> None:
    """Ten of them, cut to a length, warnings and worse; nothing once the mount is over."""
    logger = logging.getLogger("imagefs.x")
    with remembering_errors() as errors:
        logger.info("no error")
        for number in range(12):
            logger.warning("%d %s", number, "x" * 1000)
    logger.warning("later")
    rows = errors.rows()
    assert [row["text"].split()[0] for row in rows] == [str(number) for number in range(2, 12)]
    assert {len(row["text"]) for row in rows} == {MAX_TEXT}
    assert {row["level"] for row in rows} == {"warning"}


def test_it_always_fits() -> None:
    """The longest lists give way, whatever is in the names."""
    name = "\U0001f4bf" * MAX_TEXT
    row = {"name": name, "region": name}
    status = {"pid": 1, "transfers": [row] * 32, "pending": [row] * 32, "errors": [row] * 10}
    raw = fitting(status)
    assert len(raw) <= MAX_BYTES
    assert json.loads(raw)["pid"] == 1
    small = {"pid": 1, "errors": [row]}
    assert json.loads(fitting(small)) == {"pid": 1, "errors": [row]}


def test_a_cache_disk_that_hangs() -> None:
    """The rest is told without it, and nothing else waits meanwhile."""
    answering = threading.Event()

    class Cache:
        def usage(self) -> CacheUsage:
            answering.wait(60)
            return CacheUsage(1, 2, 3, 4)

    clock = trio.testing.MockClock()  # which stands still, however late a thread is
    told: list[Any] = []

    async def scene() -> None:
        status = Status(
            facts=MountFacts("/mnt", "id", "url", "/cache", read_only=False, no_delete=False, began_s=0.0),
            account=cast(Account, SimpleNamespace(snapshot=None, work=list)),
            library=cast(Library, SimpleNamespace(contents=list)),
            cache=cast(CacheDirectory, Cache()),
            tally=Tally(lambda: 0.0),
            traffic=Traffic(),
            errors=LastErrors(),
            disk_threads=trio.CapacityLimiter(2),
        )

        async def tell() -> None:
            told.append(json.loads(await status()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(DISK_S)
        answering.set()
        await tell()

    trio.run(scene, clock=clock)
    without, with_it = told
    assert without["cache"] == {"dir": "/cache"}
    assert with_it["cache"] == {"dir": "/cache", "cached": 1, "limit": 2, "free": 3, "contents": 4}
