"""What others, such as a second mount of the account, may be doing with an image.

Used by the account's changes on trio's thread.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from imagefs.account.journal import Journal
from imagefs.account.service import Service
from imagefs.account.surroundings import Surroundings
from imagefs.core.models import ListedImage, Phase
from imagefs.errors import ServiceError


class Others:
    """Tells by the listing what may be somebody else's replica of an image, as no answer names its source."""

    def __init__(self, service: Service, journal: Journal, around: Surroundings) -> None:
        self._service = service
        self._journal = journal
        self._around = around

    async def pending_copies_of(self, image: ListedImage, size_bytes: int | None) -> tuple[str, ...]:
        """The pending images of other regions that this mount has not made, of the image's name and size.

        The listing is at most ``others_ttl_s`` old, where the service answers soon; a size that is not known
        yet may be the same.
        """
        settings = self._around.settings
        if self._around.clock() > self._service.listed_at + settings.others_ttl_s:
            with trio.move_on_after(settings.listing_patience_s), suppress(ServiceError):
                await self._service.listing()
        listed = self._service.listed(image.image_id) or image
        return tuple(
            [
                other.image_id
                for other in self._service.pending
                if other.name == listed.name
                and other.region != listed.region
                and self._journal.creation_of(other.image_id) is None
                and await self._may_have_size(other.image_id, size_bytes)
            ]
        )

    async def _may_have_size(self, image_id: str, size_bytes: int | None) -> bool:
        try:
            details = await self._service.details(image_id)
        except ServiceError:
            return True
        pending = details.phase is Phase.PENDING
        return pending and (None in (size_bytes, details.size_bytes) or details.size_bytes in (0, size_bytes))
