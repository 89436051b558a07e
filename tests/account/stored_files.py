"""The files of an account as the application opens them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from imagefs.account.stored_account import StoredAccount
from imagefs.store.database import Database
from imagefs.store.index import Index
from imagefs.store.schema import JOURNAL


@contextmanager
def stored_account(index: Path) -> Iterator[StoredAccount]:
    """The rows of the account "me" in the index at *index* and the journal beside it, until the block ends."""
    with ExitStack() as files:
        opened = Index(index)
        files.callback(opened.close)
        journal = Database(index.with_name(f"{index.name}.journal"), JOURNAL)
        files.callback(journal.close)
        yield StoredAccount(opened, journal, "me")
