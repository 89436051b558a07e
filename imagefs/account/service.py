"""The service as the account's changes see it: calls in worker threads, and looks at what is there.

Used on trio's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TypeVar

import trio

from imagefs.account.backoff import growing_pauses
from imagefs.account.listing import ListingCache
from imagefs.account.protocols import AccountClient
from imagefs.account.snapshot import Snapshot
from imagefs.account.surroundings import Surroundings
from imagefs.core.models import ImageDetails, ListedImage, Phase, is_leaving
from imagefs.errors import AnswerLost, Refused, RefusedPermission, RefusedUnknownImage, ServiceError

T = TypeVar("T")


class Service:
    """Makes calls, each of them once, and lists anew, so that the answer is newer than the question."""

    def __init__(self, client: AccountClient, listing: ListingCache, around: Surroundings) -> None:
        self.client = client
        self._listing = listing
        self._around = around
        self._threads = trio.CapacityLimiter(around.settings.changes_parallel)

    @property
    def listed_at(self) -> float:
        """When the service was asked for the last listing, on the account's clock."""
        return self._listing.snapshot_asked_at

    @property
    def seen(self) -> Mapping[str, str]:
        """The images that were listed at any time, and their regions, by id, but for those that are long gone."""
        return self._listing.seen

    def forget(self, image_id: str) -> None:
        """What was listed by this id is gone."""
        self._listing.forget(image_id)

    def listed(self, image_id: str) -> ListedImage | None:
        """The image as the service listed it last, without this mount's own changes."""
        return None if self._listing.snapshot is None else self._listing.snapshot.by_id.get(image_id)

    @property
    def pending(self) -> list[ListedImage]:
        """The images that the service listed last as neither active nor failed."""
        snapshot = self._listing.snapshot
        if snapshot is None or not snapshot.has_pending:
            return []
        return [image for image in snapshot.images if image.phase is Phase.PENDING]

    async def call(self, change: Callable[..., T], deadline_s: float | None = None) -> T:
        """What *change*, a method of the client with its arguments, answers; raises ServiceError.

        Given up after *deadline_s*, by default ``change_call_s``. A caller who is cancelled leaves the call to its
        thread: the service may still carry it out, as it may when the call fails by an unexpected exception.
        """
        if deadline_s is None:
            deadline_s = self._around.settings.change_call_s
        timed = partial(change, deadline_s=deadline_s)
        return await self._around.threads.ask(timed, self._threads, surprise=AnswerLost)

    async def listing(self) -> Snapshot:
        """What the service lists now, without this mount's own changes; raises ServiceError."""
        return await self._listing.refresh()

    async def answered_listing(self) -> Snapshot:
        """The same, asked for again and again until the service answers."""
        settings = self._around.settings
        for pause_s in growing_pauses(settings.poll_first_s, settings.poll_max_s, self._around.random):
            with suppress(ServiceError):
                return await self._listing.refresh()
            await trio.sleep(pause_s)
        raise AssertionError("the pauses have no end")

    async def details(self, image_id: str) -> ImageDetails:
        """An image's details from the service, whatever is known of it; raises ServiceError."""
        settings = self._around.settings
        call = partial(self.client.image_details, image_id, deadline_s=settings.change_call_s)
        return await self._around.threads.ask(call, self._threads)

    async def judged(self, image_id: str, refusal: Refused) -> Refused:
        """What the *refusal* of a change means.

        An image that the service claims not to know but still shows is not the account's own, or not ready.
        RefusedUnknownImage is returned only where its details confirm it.
        """
        if isinstance(refusal, RefusedUnknownImage):
            try:
                details = await self.details(image_id)
            except RefusedUnknownImage:
                return refusal
            except ServiceError as error:
                return Refused(f"{refusal}, and it cannot be told whether it is there: {error}")
            if details.phase is Phase.ACTIVE:
                return RefusedPermission(f"{refusal}, although it is there: only its owner can do that")
            if not is_leaving(details.status):
                return Refused(f"{refusal}, although it is there ({details.status or 'no status'})")
        return refusal

    async def is_gone(self, image_id: str) -> bool:
        """Whether the service does not know the image, or says that it is going; raises other ServiceErrors.

        An image that is missing from a listing may still be there: listings can be cut.
        """
        try:
            return is_leaving((await self.details(image_id)).status)
        except RefusedUnknownImage:
            return True
