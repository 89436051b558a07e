"""What others, such as a second mount of the account, may be doing with an image.

Used by the account's changes on trio's thread.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from imagefs.account.journal import Journal
from imagefs.account.service import Service
from imagefs.account.surroundings import Surroundings
from imagefs.account.view import View
from imagefs.core.models import ImageDetails, ListedImage, Phase, is_leaving
from imagefs.errors import ServiceError


class Others:
    """Guesses from the listing what may be somebody else's replica of an image, as no answer names a source."""

    def __init__(self, service: Service, journal: Journal, view: View, around: Surroundings) -> None:
        self._service = service
        self._journal = journal
        self._view = view
        self._around = around

    async def pending_copies_of(self, image: ListedImage, size_bytes: int | None) -> tuple[str, ...]:
        """The pending images in other regions, with the image's name and size, that this mount did not ask for.

        There are none of an image that is not active itself, and those being deleted do not count. The listing is at
        most ``others_ttl_s`` old if the service answers soon; a size that is not known by then may be the same.
        """
        settings = self._around.settings
        if self._around.clock() > self._service.listed_at + settings.others_ttl_s:
            with trio.move_on_after(settings.listing_patience_s), suppress(ServiceError):
                await self._service.listing()
        return await self.listed_copies_of(image, size_bytes)

    async def listed_copies_of(self, image: ListedImage, size_bytes: int | None) -> tuple[str, ...]:
        """The same, by the last listing."""
        listed = self._service.listed(image.image_id) or image
        if listed.phase is not Phase.ACTIVE:
            return ()
        likely = [
            other.image_id
            for other in self._service.pending
            if other.name == listed.name and other.region != listed.region and self._is_theirs(other)
        ]
        unlike: set[str] = set()

        async def look(image_id: str) -> None:
            with suppress(ServiceError):
                if not _may_be_copy(await self._service.details(image_id), size_bytes):
                    unlike.add(image_id)

        with trio.move_on_after(self._around.settings.listing_patience_s):
            async with trio.open_nursery() as nursery:
                for image_id in likely:
                    nursery.start_soon(look, image_id)
        return tuple(image_id for image_id in likely if image_id not in unlike)

    def _is_theirs(self, other: ListedImage) -> bool:
        """Whether an image is somebody else's, and not about to be deleted, as far as can be told."""
        ours = self._journal.creation_of(other.image_id) is not None or self._view.hides(other.image_id)
        return not ours and not is_leaving(other.status)


def _may_be_copy(details: ImageDetails, size_bytes: int | None) -> bool:
    """Whether these may be the details of a copy that is being made of an image of *size_bytes*."""
    if details.phase is not Phase.PENDING or is_leaving(details.status):
        return False
    return None in (size_bytes, details.size_bytes) or details.size_bytes in (0, size_bytes)
