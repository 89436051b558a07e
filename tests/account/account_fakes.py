"""A service, an index and a stage to run an account on, without threads, network or real time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

import trio
import trio.testing

from imagefs.account import Account, AccountSettings
from imagefs.core.intents import Intent, dump_intent, load_intent
from imagefs.core.models import ImageDetails, ListedImage
from imagefs.errors import RefusedUnknownImage, ServiceError, StoreError

T = TypeVar("T")

CHECKSUM = "0a5352e3568bc893a9f7b65192caf1e1"


def image(image_id: str, name: str = "", region: str = "toronto", status: str = "active") -> ListedImage:
    """A row of the listing."""
    return ListedImage(image_id, name or f"image {image_id}", region, status)


def details_of(row: ListedImage) -> ImageDetails:
    """The details that the service gives for *row*."""
    return ImageDetails(
        row.image_id,
        row.name,
        row.region,
        row.status,
        size_bytes=1000 if row.status == "active" else None,
        checksum=CHECKSUM if row.status == "active" else None,
        time_created_ns=0,
        fields=(("name", row.name), ("status", row.status), ("disk_format", "iso")),
    )


@dataclass(frozen=True)
class FakeListing:
    images: tuple[ListedImage, ...]
    problems: tuple[str, ...] = ()


@dataclass
class FakeService:
    """Answers from ``rows``, or with the failure set; counts its calls.

    Services that list other things override :meth:`listing`.
    """

    rows: list[ListedImage] = field(default_factory=list)
    problems: tuple[str, ...] = ()
    listing_failure: Exception | None = None
    details_failure: Exception | None = None
    failures: dict[str, Exception] = field(default_factory=dict)
    details: dict[str, ImageDetails] = field(default_factory=dict)
    listings: int = 0
    asked: list[str] = field(default_factory=list)
    deadlines_s: list[float | None] = field(default_factory=list)

    def list_images(
        self,
        region: str | None = None,
        *,
        deadline_s: float | None = None,
        no_connection_s: float | None = None,
    ) -> FakeListing:
        assert region is None
        self.listings += 1
        if self.listing_failure is not None:
            raise self.listing_failure
        return self.listing()

    def listing(self) -> FakeListing:
        """The answer to a call for the listing that does not fail."""
        return FakeListing(tuple(self.rows), self.problems)

    def image_details(self, image_id: str, *, deadline_s: float | None = None) -> ImageDetails:
        self.asked.append(image_id)
        self.deadlines_s.append(deadline_s)
        failure = self.failures.get(image_id, self.details_failure)
        if failure is not None:
            raise failure
        if image_id in self.details:
            return self.details[image_id]
        for row in self.rows:
            if row.image_id == image_id:
                return details_of(row)
        raise RefusedUnknownImage("invalid image")

    def change(self, image_id: str, **fields: Any) -> None:
        """Change one row."""
        self.rows = [replace(row, **fields) if row.image_id == image_id else row for row in self.rows]


@dataclass(frozen=True)
class FakeStoredListing:
    images: tuple[ListedImage, ...]
    fetched_ns: int


class FakeIndex:
    """Keeps everything in memory, counts transactions, and can be broken."""

    def __init__(self) -> None:
        self.listing: FakeStoredListing | None = None
        self.details: dict[str, ImageDetails] = {}
        self.mtimes: dict[str, int] = {}
        self.intents: dict[int, bytes] = {}
        self.failure: StoreError | None = None
        self.calls: Counter[str] = Counter()

    def _count(self, call: str) -> None:
        self.calls[call] += 1
        if self.failure is not None:
            raise self.failure

    def load_listing(self) -> FakeStoredListing | None:
        self._count("load_listing")
        return self.listing

    def save_listing(self, images: tuple[ListedImage, ...], fetched_ns: int) -> None:
        self._count("save_listing")
        self.listing = FakeStoredListing(images, fetched_ns)

    def load_details(self) -> dict[str, ImageDetails]:
        self._count("load_details")
        return dict(self.details)

    def save_details(self, details: Iterable[ImageDetails]) -> None:
        self._count("save_details")
        self.details |= {one.image_id: one for one in details}

    def forget_details(self, image_ids: Iterable[str]) -> None:
        self._count("forget_details")
        for image_id in image_ids:
            self.details.pop(image_id, None)

    def load_mtimes(self) -> dict[str, int]:
        self._count("load_mtimes")
        return dict(self.mtimes)

    def save_mtime(self, image_id: str, mtime_ns: int | None) -> None:
        self._count("save_mtime")
        if mtime_ns is None:
            self.mtimes.pop(image_id, None)
        else:
            self.mtimes[image_id] = mtime_ns

    def load_intents(self) -> dict[int, Intent]:
        self._count("load_intents")
        intents = {number: load_intent(raw) for number, raw in self.intents.items()}
        return {number: intent for number, intent in intents.items() if intent is not None}

    def write_intents(self, saved: Mapping[int, Intent], removed: Iterable[int]) -> None:
        self._count("write_intents")
        self.intents |= {number: dump_intent(intent) for number, intent in saved.items()}
        for number in removed:
            self.intents.pop(number, None)


class Stage:
    """Where an account runs: a service and an index, whose calls take ``latency_s`` of virtual time.

    While ``has_threads`` is False, no call can begin; ``refused_threads`` counts those that wanted to.
    """

    def __init__(
        self,
        service: FakeService | None = None,
        index: FakeIndex | None = None,
        settings: AccountSettings | None = None,
    ) -> None:
        self.service = service or FakeService()
        self.index = index or FakeIndex()
        self.settings = settings
        self.latency_s = 0.05
        self.failure_latency_s = 0.05
        self.at_once = 0
        self.most_at_once = 0
        self.has_threads = True
        self.refused_threads = 0

    async def run_sync(
        self,
        sync_fn: Callable[..., T],
        *args: Any,
        abandon_on_cancel: bool = False,
        limiter: trio.CapacityLimiter | None = None,
    ) -> T:
        """Stand in for a worker thread."""
        if not self.has_threads:
            self.refused_threads += 1
            raise RuntimeError("can't start new thread")
        async with limiter or trio.CapacityLimiter(1):
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                try:
                    answer = sync_fn(*args)
                except ServiceError:
                    await trio.sleep(self.failure_latency_s)
                    raise
                await trio.sleep(self.latency_s)
                return answer
            finally:
                self.at_once -= 1

    @asynccontextmanager
    async def account(self) -> AsyncIterator[Account]:
        """An account that is open and served."""
        account = Account(
            self.service,
            self.index,
            settings=self.settings,
            wall_ns=lambda: 7,
            random=Random(1),
            run_sync=self.run_sync,
        )
        await account.open()
        async with trio.open_nursery() as nursery:
            await nursery.start(account.serve)
            yield account
            nursery.cancel_scope.cancel()


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Run *scene* in virtual time, which jumps ahead whenever every task sleeps."""

    async def main() -> None:
        await scene()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
