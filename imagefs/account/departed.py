"""Images that the service has deleted on this mount's behalf, for as long as it may still list them.

Used by the account's view and changes on trio's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from imagefs.account.journal import Journal
from imagefs.account.service import Service
from imagefs.account.snapshot import Snapshot
from imagefs.account.surroundings import Surroundings
from imagefs.core.intents import Remark
from imagefs.core.models import is_leaving
from imagefs.errors import ServiceError

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Departure:
    """When the service said that it deleted an image, and when its details were last asked for since."""

    at: float
    examined_at: float


class Departed:
    """The images that are hidden because the service said that it deleted them, whether it still lists them or not.

    One that it goes on listing stays hidden while its status or its details say that it is being deleted or gone. Only
    if both show it like any other image for long, the deletion is taken for not carried out, and it is shown again.
    """

    def __init__(
        self, service: Service, journal: Journal, around: Surroundings, forgotten: Callable[[str], None]
    ) -> None:
        """*forgotten* is called with each image that is no longer listed, nor will be: its id may be given anew."""
        self._service = service
        self._journal = journal
        self._around = around
        self._forgotten = forgotten
        self._departures: dict[str, _Departure] = {}

    @property
    def image_ids(self) -> frozenset[str]:
        """The images that are hidden."""
        return frozenset(self._departures)

    def add(self, image_id: str) -> None:
        """The service has just deleted the image, or does not know it."""
        now = self._around.clock()
        self._departures[image_id] = _Departure(now, now)

    def forget(self, image_id: str) -> None:
        """The service has given the id to a new image."""
        self._departures.pop(image_id, None)

    def review(self, listed: Snapshot, asked_at: float) -> None:
        """Compare with a listing that was asked for at *asked_at*; details are asked for where it cannot tell."""
        settings = self._around.settings
        for image_id, departure in tuple(self._departures.items()):
            image = listed.by_id.get(image_id)
            if image is None:
                if asked_at > departure.at + settings.vanish_s:
                    del self._departures[image_id]
                    self._forgotten(image_id)
            elif not is_leaving(image.status) and asked_at > departure.examined_at + settings.settle_s:
                departure.examined_at = asked_at
                self._around.start(partial(self._examine, image_id, departure))

    async def _examine(self, image_id: str, departure: _Departure) -> None:
        asked_at = self._around.clock()
        try:
            if await self._service.is_gone(image_id):
                return
        except ServiceError:
            return
        if asked_at <= departure.at + self._around.settings.vanish_s:
            return
        if self._departures.get(image_id) is departure:
            del self._departures[image_id]
            error = "The service said that it was deleted, and has it still"
            log.warning("Image %s is shown again: %s.", image_id, error)
            await self._journal.settle(leaving=[Remark((image_id,), error=error)])
