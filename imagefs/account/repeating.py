"""Renaming and deleting although answers get lost: nothing that was done is reported as failed.

Used by :class:`imagefs.account.changes.Changes` on trio's thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import trio

from imagefs.account.errands import Errand
from imagefs.account.service import Service
from imagefs.account.surroundings import Surroundings
from imagefs.core.models import ImageDetails
from imagefs.errors import NotFound, PutOff, Refused, RefusedUnknownImage, ServiceError

IsDone = Callable[[], Awaitable[bool]]


class Repeater:
    """Makes calls that do no harm when they are made twice.

    A call whose answer was lost is made once more if the account shows that it was not carried out; one that the
    service puts off is repeated for as long as the caller waits. The answer to a repetition does not count if an
    earlier call turns out to have been carried out after all.
    """

    def __init__(self, service: Service, around: Surroundings) -> None:
        self._service = service
        self._second_look_s = around.settings.second_look_s

    async def rename(self, errand: Errand, image_id: str, name: str) -> None:
        """Give an image another name; raises ServiceError, and NotFound where it has vanished meanwhile."""
        change = partial(self._service.client.rename_image, image_id, name)
        await self._make(errand, image_id, change, lambda: self._is_named(image_id, name))

    async def delete(self, errand: Errand, image_id: str) -> None:
        """Delete an image; raises ServiceError, and RefusedUnknownImage where it was gone before."""
        change = partial(self._service.client.delete_image, image_id)
        await self._make(errand, image_id, change, lambda: self._is_gone(image_id), gone_is_done=True)

    async def _make(
        self,
        errand: Errand,
        image_id: str,
        change: Callable[..., None],
        is_done: IsDone,
        *,
        gone_is_done: bool = False,
    ) -> None:
        errand.commit()
        doubt: ServiceError | None = None
        while True:
            try:
                await self._service.call(change, errand.left_s)
            except ServiceError as error:
                if doubt is not None and gone_is_done and isinstance(error, RefusedUnknownImage):
                    await self._check_gone(image_id, error, doubt)
                    return
                if doubt is None and isinstance(error, Refused):
                    raise await self._service.judged(image_id, error) from None
                if doubt is None and not error.maybe_done:
                    raise
                again = await errand.sit_out(error) if isinstance(error, PutOff) else doubt is None
                if await is_done():
                    return
                if not again or not errand.attended:
                    if doubt is None or isinstance(error, PutOff):
                        raise
                    await trio.sleep(self._second_look_s)
                    if await is_done():
                        return
                    raise
                doubt = error
            else:
                return

    async def _check_gone(self, image_id: str, refusal: RefusedUnknownImage, doubt: ServiceError) -> None:
        """Raise what a *refusal* that comes after *doubt* means, unless that the image is gone by now.

        After a lost answer it means just that; a call that was put off was most likely not carried out.
        """
        if isinstance(doubt, PutOff):
            judged = await self._service.judged(image_id, refusal)
            if not isinstance(judged, RefusedUnknownImage):
                raise judged from None

    async def _is_named(self, image_id: str, name: str) -> bool:
        """Whether listing or details, which may both be old, show the name."""
        listed = (await self._service.answered_listing()).by_id.get(image_id)
        if listed is not None and listed.name == name:
            return True
        try:
            details = await self._details(image_id)
        except RefusedUnknownImage:
            if listed is None:
                raise NotFound(f"Image {image_id} is gone from the account.") from None
            return False
        return details is not None and details.name == name

    async def _is_gone(self, image_id: str) -> bool:
        """Whether the service does not know the image, or says that it is going: a listing may be cut or old."""
        await self._service.answered_listing()
        with suppress(ServiceError):
            return await self._service.is_gone(image_id)
        return False

    async def _details(self, image_id: str) -> ImageDetails | None:
        """An image's details, None where they cannot be had; raises RefusedUnknownImage."""
        try:
            return await self._service.details(image_id)
        except RefusedUnknownImage:
            raise
        except ServiceError:
            return None
