"""What is pending: polled for as long as there is anything.

Used by :class:`imagefs.account.Account` and its changes on trio's thread.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import trio

from imagefs.account.backoff import growing_pauses
from imagefs.account.finishing import Finisher
from imagefs.account.journal import Entry, Journal
from imagefs.account.locks import KeyedLocks
from imagefs.account.service import Service
from imagefs.account.surroundings import Surroundings
from imagefs.account.view import View
from imagefs.core.models import Phase
from imagefs.errors import ImageFailed, NotFound, ServiceError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Step:
    """One step of an entry, taken under the lock of its image."""

    entry: Entry[Any]
    image_id: str
    take: Callable[[], Awaitable[None]]


class PendingWork:
    """Polls the account, by one listing for all that is pending, and finishes what can be finished.

    The pauses between polls grow, and start anew with each change; they stay short while someone waits.
    """

    def __init__(
        self,
        service: Service,
        finisher: Finisher,
        journal: Journal,
        view: View,
        images: KeyedLocks,
        around: Surroundings,
    ) -> None:
        self._service = service
        self._finisher = finisher
        self._journal = journal
        self._view = view
        self._images = images
        self._around = around
        self._waiters = 0
        self._nudged = trio.Event()
        self._progress = trio.Event()

    async def run(self) -> None:
        """Go on until cancelled."""
        settings = self._around.settings
        pauses = growing_pauses(settings.poll_first_s, settings.poll_max_s, self._around.random)
        look_at = math.inf
        while True:
            with trio.move_on_at(look_at):
                await self._nudged.wait()
            if self._nudged.is_set():
                self._nudged = trio.Event()
                pauses = growing_pauses(settings.poll_first_s, settings.poll_max_s, self._around.random)
                look_at = min(look_at, self._around.clock() + next(pauses))
                self._take_steps()
            elif self._waiters or self._open_steps():
                with suppress(ServiceError):
                    await self._service.listing()
                pause_s = settings.poll_first_s if self._waiters else next(pauses)
                look_at = self._around.clock() + pause_s
            else:
                look_at = math.inf

    def nudge(self) -> None:
        """There is something new to finish, or someone waits for an image."""
        self._nudged.set()

    def listing_changed(self) -> None:
        """A listing has arrived, whoever asked for it."""
        self._take_steps()
        if self._journal.remarks:
            self._around.start(self._forget_remarks)
        self._tell_progress()

    async def wait_active(self, image_id: str) -> None:
        """Wait until an image is active, and one that this mount has made is named and checked as well.

        Raises ImageFailed where it ends in another way, and NotFound where it is gone.
        """
        self._waiters += 1
        self.nudge()
        try:
            while True:
                progress = self._progress
                if self._is_active(image_id):
                    return
                if self._view.shown(image_id) is None and await self._is_gone(image_id):
                    raise NotFound(f"Image {image_id} is gone from the account.")
                await progress.wait()
        finally:
            self._waiters -= 1

    def _is_active(self, image_id: str) -> bool:
        image = self._view.shown(image_id)
        remark = self._journal.remark_on(image_id)
        if remark is not None and remark.failed:
            raise ImageFailed(remark.error or f"Image {image_id} has failed.")
        if image is None or self._journal.creation_of(image_id) is not None:
            return False
        if image.phase is Phase.FAILED:
            raise ImageFailed(f"Image {image_id} has failed ({image.status}).")
        return image.phase is Phase.ACTIVE

    async def _is_gone(self, image_id: str) -> bool:
        """Whether an image that is not shown was hidden by this mount, or the service does not know it."""
        if self._view.hides(image_id):
            return True
        with suppress(ServiceError):
            return await self._service.is_gone(image_id)
        return False

    def _open_steps(self) -> list[_Step]:
        """The next step of each entry that can be taken further."""
        steps = [
            _Step(creation, creation.intent.image_id, partial(self._finisher.advance_creation, creation))
            for creation in self._journal.creations
            if creation.intent.image_id is not None
        ]
        if not self._around.settings.no_delete:
            steps += [
                _Step(deletion, deletion.intent.image_id, partial(self._finisher.advance_deletion, deletion))
                for deletion in self._journal.deletions
            ]
        return steps

    def _take_steps(self) -> None:
        for step in self._open_steps():
            self._around.start(partial(self._take, step))

    async def _take(self, step: _Step) -> None:
        """Take one step, unless something else is being done with the image just now."""
        lock = self._images[step.image_id]
        try:
            lock.acquire_nowait()
        except trio.WouldBlock:
            return
        try:
            if self._journal.holds(step.entry):
                await step.take()
        except ServiceError as error:
            log.debug("Image %s is not finished yet: %s", step.image_id, error)
        finally:
            lock.release()
            self._tell_progress()

    def _tell_progress(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    async def _forget_remarks(self) -> None:
        """Drop what is remembered of images that are all gone, and not just missing from a listing."""
        for entry in tuple(self._journal.remarks):
            image_ids = entry.intent.image_ids
            if any(map(self._service.listed, image_ids)):
                continue
            if all([await self._is_gone(image_id) for image_id in image_ids]) and self._journal.holds(entry):
                await self._journal.settle(entry)
