"""The names of new images: the ones that were asked for, unless somebody else has renamed them since.

Used by :class:`imagefs.account.finishing.Finisher` on trio's thread, with the lock of the image.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from weakref import WeakKeyDictionary, WeakSet

from imagefs.account.journal import Entry, Journal
from imagefs.account.service import Service
from imagefs.account.view import REQUESTED_STATUS, View
from imagefs.core.intents import Creation
from imagefs.core.models import ListedImage
from imagefs.errors import Refused


class Naming:
    """Gives new images their names. Every method raises ServiceError where it is to be tried again.

    ``_named`` holds the names that the service has confirmed, ``_unknown`` the images whose rename has no answer.
    """

    def __init__(self, service: Service, journal: Journal, view: View) -> None:
        self._service = service
        self._journal = journal
        self._view = view
        self._named: WeakKeyDictionary[Entry[Creation], str] = WeakKeyDictionary()
        self._unknown: WeakSet[Entry[Creation]] = WeakSet()

    async def give_name(self, entry: Entry[Creation], image: ListedImage) -> Refused | None:
        """Rename the image if it does not have the wanted name yet; returns the refusal if that was refused.

        If it had that name once, and has another one now, somebody else has renamed it, and it keeps that name.
        """
        name = entry.intent.name
        if self._is_known_as_wanted(entry, image):
            return None
        if self._named.get(entry) == name and image.name and image.name not in entry.intent.first_names:
            self._named[entry] = image.name
            await self._journal.record(entry, replace(entry.intent, name=image.name))
            return None
        self._unknown.add(entry)  # until there is an answer
        refusal = None
        try:
            await self._service.call(partial(self._service.client.rename_image, image.image_id, name))
        except Refused as error:
            refusal = None if await self._is_named(image.image_id, name) else error
        self._unknown.discard(entry)
        if refusal is None:
            self._named[entry] = name
            self._view.note_renamed(image, name)
        return refusal

    def _is_known_as_wanted(self, entry: Entry[Creation], image: ListedImage) -> bool:
        """Whether the image has the wanted name, and no rename is without an answer that could have changed it."""
        return self._view.account_name(image) == entry.intent.name and entry not in self._unknown

    def has_named(self, entry: Entry[Creation]) -> bool:
        """Whether the service has confirmed a name of the new image, and so that there was one."""
        return entry in self._named

    async def name_unlisted(self, entry: Entry[Creation], image_id: str) -> None:
        """Rename a new image that is not listed yet, once its details show that it is where it should be."""
        wanted = entry.intent
        image = _promised_image(wanted, image_id)
        if self._is_known_as_wanted(entry, image):
            return
        with suppress(Refused):
            details = await self._service.details(image_id)
            if details.region == wanted.region:
                await self.give_name(entry, image)

    async def _is_named(self, image_id: str, name: str) -> bool:
        """Whether an image that the service does not rename has the name already, which a listing may not show yet."""
        with suppress(Refused):
            return (await self._service.details(image_id)).name == name
        return False


def _promised_image(wanted: Creation, image_id: str) -> ListedImage:
    """The row that the service will most likely list for a new image of which only the id is known."""
    return ListedImage(image_id, wanted.first_names[0], wanted.region, REQUESTED_STATUS)
