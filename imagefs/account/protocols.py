"""What the account asks of its collaborators: the service's client, the index on disk, worker threads.

Implemented by ``imagefs.api`` and ``imagefs.store``, and by named fakes in the tests. Methods that are not
async may block; the account calls them in worker threads, several at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol, TypeVar, TypeVarTuple, Unpack

import trio

from imagefs.core.intents import Intent
from imagefs.core.models import ImageDetails, ListedImage

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

StartTask = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task that outlives its starter and ends with :meth:`imagefs.account.Account.serve`."""


class Listing(Protocol):
    """An answer to ``image/list``; ids are unique."""

    @property
    def images(self) -> tuple[ListedImage, ...]:
        """The rows that make sense, in the answer's order."""

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each row that does not."""


class ListingClient(Protocol):
    """The calls that change nothing. Both raise :class:`imagefs.errors.ServiceError`."""

    def list_images(
        self,
        region: str | None = None,
        *,
        deadline_s: float | None = None,
        no_connection_s: float | None = None,
    ) -> Listing:
        """All images, or those of one region; given up after *no_connection_s* without any connection."""

    def image_details(self, image_id: str, *, deadline_s: float | None = None) -> ImageDetails:
        """One image's details."""


class AccountClient(ListingClient, Protocol):
    """All calls of the account.

    A change is sent at most once; it raises an error with ``maybe_done`` where it may have been carried out.
    """

    def rename_image(self, image_id: str, name: str, *, deadline_s: float | None = None) -> None:
        """Give an image another name."""

    def delete_image(self, image_id: str, *, deadline_s: float | None = None) -> None:
        """Delete an image for good."""

    def replicate_image(self, image_id: str, region: str, *, deadline_s: float | None = None) -> str:
        """Begin a copy of an image in another region; the replica's id."""

    def fetch_image(
        self,
        *,
        region: str,
        name: str,
        location: str,
        image_format: str,
        virtio: bool,
        deadline_s: float | None = None,
    ) -> str:
        """Begin to download an image from a URL; the new image's id."""


class StoredListing(Protocol):
    """A listing as the index kept it; ``fetched_ns`` is nanoseconds since the epoch."""

    @property
    def images(self) -> tuple[ListedImage, ...]:
        """The rows, in the service's order."""

    @property
    def fetched_ns(self) -> int:
        """When the service was asked."""


class AccountIndex(Protocol):
    """What survives a restart. Every method may raise :class:`imagefs.errors.StoreError`."""

    def load_listing(self) -> StoredListing | None:
        """The last listing saved."""

    def save_listing(self, images: tuple[ListedImage, ...], fetched_ns: int) -> None:
        """Replace the listing."""

    def load_details(self) -> dict[str, ImageDetails]:
        """All details saved, by image id."""

    def save_details(self, details: Iterable[ImageDetails]) -> None:
        """Add or replace many in one transaction."""

    def forget_details(self, image_ids: Iterable[str]) -> None:
        """Remove many in one transaction."""

    def load_mtimes(self) -> dict[str, int]:
        """The modification times that tools set, in nanoseconds since the epoch, by image id."""

    def save_mtime(self, image_id: str, mtime_ns: int | None) -> None:
        """Add or replace one; None removes it."""

    def load_intents(self) -> dict[int, Intent]:
        """The journal: all open intents by number."""

    def write_intents(self, saved: Mapping[int, Intent], removed: Iterable[int]) -> None:
        """Add or replace intents of the journal and remove others, in one durable transaction."""


class RunSync(Protocol):
    """The part of :func:`trio.to_thread.run_sync` that is used."""

    async def __call__(
        self,
        sync_fn: Callable[[Unpack[Ts]], T],
        *args: *Ts,
        abandon_on_cancel: bool = False,
        limiter: trio.CapacityLimiter | None = None,
    ) -> T:
        """Run *sync_fn* in a worker thread."""
