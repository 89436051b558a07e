"""The account's listing, kept fresh by as few calls as possible.

Used by :class:`imagefs.account.Account` on trio's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from copy import copy

import trio

from imagefs.account.backoff import growing_pauses
from imagefs.account.flights import SingleFlight
from imagefs.account.outage import Outage
from imagefs.account.persistence import persistently
from imagefs.account.protocols import ListingClient
from imagefs.account.snapshot import NOTHING_LISTED, Snapshot
from imagefs.account.surroundings import Surroundings
from imagefs.core.models import ListedImage, is_leaving
from imagefs.errors import MalformedAnswer, Refused, ServiceError

log = logging.getLogger(__name__)

_LISTING = "image/list"
_MAX_PROBLEMS_LOGGED = 10
_MOST_ASKED_ABOUT = 8
_MAX_SEEN = 500_000


class ListingCache:
    """The last good listing, refreshed on demand; after a failure in the background until it succeeds."""

    def __init__(
        self,
        client: ListingClient,
        outage: Outage,
        around: Surroundings,
        deleted_ids: Callable[[], Set[str]],
        publish: Callable[[Snapshot, Snapshot], None],
        forgotten: Callable[[str], None],
    ) -> None:
        """*deleted_ids* gives the images that this mount has deleted lately.

        *publish* is called with each new listing, as (old, new), before anyone gets it, and *forgotten* with each image
        that was missing for so long that its id may be given anew.

        ``snapshot_asked_at`` is when the service was asked for ``snapshot``, on the account's clock. ``seen`` are
        the images of all listings so far and their regions, by id, but for those that were forgotten.
        """
        self.seen: dict[str, str] = {}
        self.snapshot: Snapshot | None = None
        self.snapshot_asked_at = float("-inf")
        self._client = client
        self._outage = outage
        self._around = around
        self._settings = around.settings
        self._deleted_ids = deleted_ids
        self._publish = publish
        self._forgotten = forgotten
        self._missing_since: dict[str, float] = {}
        self._fresh_until = float("-inf")
        self._asked_at: float | None = None
        self._failure: ServiceError | None = None
        self._senseless_since: float | None = None
        self._retry_scope: trio.CancelScope | None = None
        self._flights: SingleFlight[Snapshot] = SingleFlight(around.start)
        self._threads = trio.CapacityLimiter(1)

    def restore(self, snapshot: Snapshot) -> None:
        """Start from a listing of an earlier run, which counts as old."""
        self.snapshot = snapshot
        self._see(snapshot)

    async def current(self) -> Snapshot:
        """The listing, refreshed first where it is too old and the service answers in time.

        Raises ServiceError only where there never was a listing.
        """
        snapshot = self.snapshot
        now = self._around.clock()
        if snapshot is None:
            if self._retry_scope is not None and self._failure is not None:
                raise copy(self._failure)
            return await self._join()
        if now < self._fresh_until or self._retry_scope is not None:
            await trio.lowlevel.checkpoint()
            return snapshot
        asked_at = now if self._asked_at is None else self._asked_at
        patience_s = max(0.0, asked_at + self._settings.listing_patience_s - now)
        with trio.move_on_after(patience_s), suppress(ServiceError):
            return await self._join()
        return snapshot

    async def refresh(self) -> Snapshot:
        """A listing that was asked for after this call began; raises ServiceError."""
        await self._flights.landed(_LISTING)
        return await self._join()

    async def _join(self) -> Snapshot:
        return await self._flights.join(_LISTING, self._fetch)

    async def _fetch(self) -> Snapshot:
        old = self.snapshot or NOTHING_LISTED
        asked_ns = self._around.wall_ns()
        no_connection_s = self._settings.first_connection_s if self.snapshot is None else None
        asked_at = self._asked_at = self._around.clock()
        since = asked_at if self._senseless_since is None else self._senseless_since
        is_checked = asked_at <= since + self._settings.vanish_s
        deleted_ids = self._deleted_ids()
        is_empty = False

        def list_all() -> Snapshot:
            nonlocal is_empty
            answer = self._client.list_images(
                deadline_s=self._settings.call_deadline_s, no_connection_s=no_connection_s
            )
            is_empty = not answer.images
            if is_checked and is_empty:
                self._check_emptied([image for image in old.images if image.image_id not in deleted_ids])
            return old.successor(answer.images, asked_ns, answer.problems)

        try:
            new = await self._around.threads.ask(list_all, self._threads)
        except ServiceError as error:
            if is_empty and isinstance(error, MalformedAnswer):
                self._senseless_since = since
            self._failed(error)
            raise
        finally:
            self._asked_at = None
        self._succeeded(old, new, asked_at)
        return new

    def _check_emptied(self, images: Sequence[ListedImage]) -> None:
        """Raise ServiceError for an empty listing while one of the *images* that were listed before is still there.

        Asks about some at both ends: details of templates, which are listed side by side, may be refused. Runs in the
        worker thread of the listing, for no longer than one call may take.
        """
        deadline_s = self._settings.call_deadline_s / _MOST_ASKED_ABOUT
        half = _MOST_ASKED_ABOUT // 2
        for image in (*images[:half], *images[half:][-half:]):
            try:
                details = self._client.image_details(image.image_id, deadline_s=deadline_s)
            except Refused:
                continue
            if not is_leaving(details.status):
                raise MalformedAnswer(f"The listing is empty, although image {image.image_id} is there")

    def _succeeded(self, old: Snapshot, new: Snapshot, asked_at: float) -> None:
        self._outage.note_answer()
        if self._failure is not None:
            log.info("The images can be listed again.")
        self._failure = self._senseless_since = None
        if self._retry_scope is not None:
            self._retry_scope.cancel()
            self._retry_scope = None
        if new.problems != old.problems:
            _log_problems(new.problems)
        ttl_s = self._settings.pending_ttl_s if new.has_pending else self._settings.listing_ttl_s
        self._fresh_until = self._around.clock() + ttl_s
        self.snapshot, self.snapshot_asked_at = new, asked_at
        self._see(new)
        self._forget_missing(new, asked_at)
        self._publish(old, new)

    def _see(self, listing: Snapshot) -> None:
        if len(self.seen) > _MAX_SEEN:
            self.seen = {}
        self.seen.update((image.image_id, image.region) for image in listing.images)

    def _forget_missing(self, listing: Snapshot, asked_at: float) -> None:
        """Forget the images that no listing has had for long; a single one may be cut, or old."""
        missing = self.seen.keys() - listing.by_id.keys()
        self._missing_since = {each: self._missing_since.get(each, asked_at) for each in missing}
        for image_id in missing:
            if asked_at > self._missing_since[image_id] + self._settings.vanish_s:
                self.forget(image_id)

    def forget(self, image_id: str) -> None:
        """The image is gone, and its id may be given anew."""
        self.seen.pop(image_id, None)
        self._missing_since.pop(image_id, None)
        self._forgotten(image_id)

    def _failed(self, error: ServiceError) -> None:
        self._outage.note_failure(_LISTING, error)
        if self._failure is None:
            instead = "there is no earlier listing" if self.snapshot is None else "the last listing serves on"
            log.warning("The images cannot be listed, and %s: %s", instead, error)
        self._failure = copy(error)
        if self._retry_scope is None:
            scope = trio.CancelScope()
            self._around.start(lambda: self._retry(scope))
            self._retry_scope = scope

    async def _retry(self, scope: trio.CancelScope) -> None:
        """Try again, ever more rarely, until some call for the listing succeeds and cancels *scope*."""
        try:
            with scope:
                await persistently("The listing in the background", self._go_on_trying, self._around)
        finally:
            if self._retry_scope is scope:
                self._retry_scope = None

    async def _go_on_trying(self) -> None:
        settings = self._settings
        for pause_s in growing_pauses(settings.retry_first_s, settings.retry_max_s, self._around.random):
            await trio.sleep(pause_s)
            with suppress(ServiceError):
                await self._join()


def _log_problems(problems: tuple[str, ...]) -> None:
    for problem in problems[:_MAX_PROBLEMS_LOGGED]:
        log.warning("The listing has a row that makes no sense: %s", problem)
    if len(problems) > _MAX_PROBLEMS_LOGGED:
        log.warning("The listing has %d more such rows.", len(problems) - _MAX_PROBLEMS_LOGGED)
