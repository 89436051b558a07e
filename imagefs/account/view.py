"""What is shown of the account: the service's listing, with what this mount has done to it since.

Used by :class:`imagefs.account.Account` and its changes on trio's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from imagefs.account.departed import Departed
from imagefs.account.journal import Journal
from imagefs.account.listing import ListingCache
from imagefs.account.snapshot import NOTHING_LISTED, Snapshot
from imagefs.account.surroundings import Surroundings
from imagefs.core.models import ListedImage

log = logging.getLogger(__name__)

REQUESTED_STATUS = "queued"
"""The status of an image that the service has promised but not listed yet; one of its own words."""


@dataclass(frozen=True, slots=True)
class _Renamed:
    """A rename that the service has confirmed, and when; ``before`` are the names that it replaced."""

    before: frozenset[str]
    name: str
    at: float


class View:
    """The images as this mount left them.

    A listing that was asked for before the answer to a change does not undo the change. One that was asked for later,
    but shows the state before the change, is believed only once the service has had time to settle, even if an earlier
    listing has shown the change: listings may be old in any order. For deleted images see
    :class:`imagefs.account.departed.Departed`.
    """

    def __init__(
        self,
        listing: ListingCache,
        journal: Journal,
        departed: Departed,
        around: Surroundings,
        publish: Callable[[Snapshot, Snapshot], None],
        deleted: Callable[[str], None],
    ) -> None:
        """*publish* is called with each new snapshot, as (old, new); *deleted* with the id of each deleted image."""
        self.snapshot: Snapshot | None = None
        self._listing = listing
        self._journal = journal
        self._around = around
        self._publish = publish
        self._deleted = deleted
        self._renamed: dict[str, _Renamed] = {}
        self._departed = departed

    def note_renamed(self, image: ListedImage, name: str) -> None:
        """The service has just renamed the image that was listed as *image*."""
        before = {image.name}
        if (earlier := self._renamed.get(image.image_id)) is not None:
            before |= earlier.before | {earlier.name}
        self._renamed[image.image_id] = _Renamed(frozenset(before - {name}), name, self._around.clock())
        self.update()

    def note_deleted(self, image_id: str) -> None:
        """The service has just deleted the image, or does not know it."""
        self._departed.add(image_id)
        self._deleted(image_id)
        self.update()

    def note_made(self, image_id: str) -> None:
        """The service has just said that the image is a new one."""
        self._departed.forget(image_id)

    def has_deleted(self, image_id: str) -> bool:
        """Whether the service has lately said that it deleted the image."""
        return image_id in self._departed.image_ids

    def shown(self, image_id: str) -> ListedImage | None:
        """The image as it is shown; None where it is not."""
        return None if self.snapshot is None else self.snapshot.by_id.get(image_id)

    def account_name(self, image: ListedImage) -> str:
        """The name that the image listed as *image* has in the account, as far as this mount knows."""
        renamed = self._renamed.get(image.image_id)
        return image.name if renamed is None else renamed.name

    def hides(self, image_id: str) -> bool:
        """Whether the image is not shown because this mount has deleted it, or is going to."""
        return image_id in self._hidden()

    def is_going(self, image_id: str) -> bool:
        """Whether the image is hidden because it is to be deleted, and is still in the account."""
        listed = self._listing.snapshot
        is_listed = listed is not None and image_id in listed.by_id
        return is_listed and self.hides(image_id) and image_id not in self._departed.image_ids

    def update(self) -> None:
        """Show what the listing and the journal say now.

        Raises nothing: with many images there may be no memory for it, and what was done all the same has not failed.
        """
        try:
            self._update()
        except Exception:
            log.exception("What is shown of the account cannot be brought up to date.")

    def _update(self) -> None:
        listed = self._listing.snapshot
        if listed is None:
            return
        self._forget_settled(listed)
        old = self.snapshot or NOTHING_LISTED
        new = self._changed(listed, old)
        if new is not old:
            self.snapshot = new
            self._publish(old, new)

    def _changed(self, listed: Snapshot, old: Snapshot) -> Snapshot:
        """*listed* with all changes; *listed* itself where there are none."""
        hidden = self._hidden()
        names = {image_id: renamed.name for image_id, renamed in self._renamed.items()}
        promised = []
        for creation in (entry.intent for entry in self._journal.creations):
            if creation.image_id is not None:
                names[creation.image_id] = creation.name
                row = ListedImage(creation.image_id, creation.name, creation.region, REQUESTED_STATUS)
                promised.append(row)
        if not hidden and not names:
            return listed
        rows = [
            _named(image, names) if image.image_id in names else image
            for image in listed.images
            if image.image_id not in hidden
        ]
        rows += [row for row in promised if row.image_id not in listed.by_id and row.image_id not in hidden]
        return old.successor(tuple(rows), listed.fetched_ns, listed.problems)

    def _hidden(self) -> frozenset[str]:
        """The images that are deleted or are to be; where the mount deletes nothing, the latter are shown."""
        going = [entry.intent.image_id for entry in self._journal.deletions]
        for creation in (entry.intent for entry in self._journal.creations):
            if creation.move and creation.image_id is not None and creation.source_id is not None:
                going.append(creation.source_id)
        if self._around.settings.no_delete:
            going = []
        return frozenset(going) | self._departed.image_ids

    def _forget_settled(self, listed: Snapshot) -> None:
        """Drop the changes that the service has had time to show, and renames that somebody else has overridden."""
        asked_at = self._listing.snapshot_asked_at
        settle_s = self._around.settings.settle_s
        for image_id, renamed in tuple(self._renamed.items()):
            image = listed.by_id.get(image_id)
            ours = image is None or image.name in (*renamed.before, renamed.name)
            if asked_at > renamed.at and not (ours and asked_at <= renamed.at + settle_s):
                del self._renamed[image_id]
        self._departed.review(listed, asked_at)


def _named(image: ListedImage, names: dict[str, str]) -> ListedImage:
    name = names[image.image_id]
    return image if name == image.name else replace(image, name=name)
