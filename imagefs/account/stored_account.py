"""One account's rows of the cache's index and journal, in the form that the account asks for.

Made by the application; called in worker threads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from imagefs.account.protocols import StoredListing
from imagefs.core.intents import Intent
from imagefs.core.models import ImageDetails, ListedImage
from imagefs.store.database import Database
from imagefs.store.index import Index
from imagefs.store.journal import JournalTable


class StoredAccount:
    """An :class:`imagefs.account.protocols.AccountIndex` on the index and the journal of a cache directory.

    *account* tells apart the accounts that use one cache directory in turn. Every method may raise
    :class:`imagefs.errors.StoreError`.
    """

    def __init__(self, index: Index, journal: Database, account: str) -> None:
        self._index = index
        self._account = account
        self._journal = JournalTable(journal, account)

    def load_listing(self) -> StoredListing | None:
        """The last listing saved."""
        return self._index.load_listing(self._account)

    def save_listing(self, images: tuple[ListedImage, ...], fetched_ns: int) -> None:
        """Replace the listing."""
        self._index.save_listing(self._account, images, fetched_ns)

    def load_details(self) -> dict[str, ImageDetails]:
        """All details saved, by image id."""
        return self._index.load_details(self._account)

    def save_details(self, details: Iterable[ImageDetails]) -> None:
        """Add or replace many in one transaction."""
        self._index.save_details(self._account, details)

    def forget_details(self, image_ids: Iterable[str]) -> None:
        """Remove many in one transaction."""
        self._index.forget_details(self._account, image_ids)

    def load_mtimes(self) -> dict[str, int]:
        """The modification times that tools set, in nanoseconds since the epoch, by image id."""
        return self._index.load_mtimes(self._account)

    def save_mtime(self, image_id: str, mtime_ns: int | None) -> None:
        """Add or replace one; None removes it."""
        self._index.set_mtime(self._account, image_id, mtime_ns)

    def load_intents(self) -> dict[int, Intent]:
        """The journal: all open intents by number."""
        return self._journal.load()

    def write_intents(self, saved: Mapping[int, Intent], removed: Iterable[int]) -> None:
        """Add or replace intents of the journal and remove others, in one durable transaction."""
        self._journal.write(saved, removed)
