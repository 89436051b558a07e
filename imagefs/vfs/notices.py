"""What the kernel is told of that happened behind the mount's back. On trio's thread."""

from __future__ import annotations

from collections.abc import Callable

from imagefs.account import Account, Snapshot
from imagefs.core.models import ImageDetails
from imagefs.core.names import to_os
from imagefs.vfs.draft_file import DraftFile
from imagefs.vfs.files import Files
from imagefs.vfs.nodes import Region


class Notices:
    """Tells open files and the kernel of changes to listing, details and drafts."""

    def __init__(self, account: Account, files: Files, forget_name: Callable[[int, bytes], None]) -> None:
        """*forget_name* tells the kernel that a name in a directory (its inode number) is no longer true."""
        self._account = account
        self._files = files
        self._forget_name = forget_name
        account.subscribe(on_change=self._listing_changed, on_details_change=self._details_changed)

    def draft_vanished(self, draft: DraftFile) -> None:
        """The draft's name means something else now: an image, or nothing."""
        self._forget_name(Region(draft.region).inode, to_os(draft.filename))

    def _listing_changed(self, old: Snapshot, new: Snapshot) -> None:
        self._files.vanished(old.by_id.keys() - new.by_id.keys())
        for region in old.regions:
            before, after = old.names(region).listed, new.names(region).listed
            if before is after:
                continue
            for name, image_id in before.items():
                if after.get(name) != image_id or _status(old, image_id) != _status(new, image_id):
                    self._forget_name(Region(region).inode, to_os(name))

    def _details_changed(self, old: ImageDetails, new: ImageDetails) -> None:
        """The image has other content now: nobody may fetch the old content from it any more."""
        if old.content_key == new.content_key:
            return
        self._files.vanished({new.image_id})
        snapshot = self._account.snapshot
        if snapshot is not None and new.image_id in snapshot.by_id:  # the kernel believes in the old size
            region = snapshot.by_id[new.image_id].region
            self._forget_name(Region(region).inode, to_os(snapshot.names(region).file_name_of(new.image_id)))


def _status(snapshot: Snapshot, image_id: str) -> str:
    return snapshot.by_id[image_id].status
