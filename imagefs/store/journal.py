"""The journal's rows: what the mount has set out to do to the account, durable before it is done.

In a file of its own, so that it survives damage to the index, which is written all the time. Used by the account
through `imagefs.account.stored_account`, from worker threads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from imagefs.core.intents import Intent, dump_intent, load_intent
from imagefs.store.database import Database
from imagefs.store.schema import seal_of

_log = logging.getLogger(__name__)


class JournalTable:
    """The open intents of *account*, by number.

    Both methods raise `CacheFull` where there is no space and `CacheUnusable` where the file fails.
    """

    def __init__(self, database: Database, account: str) -> None:
        self._database = database
        self._account = account.encode("utf-8", "surrogatepass")

    def load(self) -> dict[int, Intent]:
        """All intents in the order of their numbers. A damaged row is reported in the log and removed."""
        intents: dict[int, Intent] = {}
        query = "SELECT number, intent, seal FROM journal WHERE account = ? ORDER BY number"
        with self._database.transaction() as connection:
            for number, raw, seal in connection.execute(query, (self._account,)).fetchall():
                sound = seal == seal_of("journal", self._account, number, raw)
                intent = load_intent(raw) if sound else None
                if intent is not None:
                    intents[number] = intent
                    continue
                _log.warning(
                    "The record of an unfinished change of the account is damaged: look there for an image that"
                    " was to be renamed or deleted."
                )
                row = (self._account, number)
                connection.execute("DELETE FROM journal WHERE account = ? AND number = ?", row)
        return intents

    def write(self, saved: Mapping[int, Intent], removed: Iterable[int]) -> None:
        """Add or replace intents and remove others, in one durable transaction."""
        rows = [(self._account, number, dump_intent(intent)) for number, intent in saved.items()]
        with self._database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO journal VALUES (?, ?, ?, ?)",
                [(*columns, seal_of("journal", *columns)) for columns in rows],
            )
            connection.executemany(
                "DELETE FROM journal WHERE account = ? AND number = ?",
                [(self._account, number) for number in removed],
            )


def take_over_rows(earlier: Database, journal: Database) -> None:
    """Move the intents that an earlier version kept in its index, the database *earlier*, to *journal*.

    Raises:
        CacheFull, CacheUnusable: they could not be moved, and none is lost.

    """
    with earlier.transaction() as connection:
        rows = connection.execute("SELECT account, number, intent, seal FROM journal").fetchall()
    if not rows:
        return
    with journal.transaction() as connection:
        connection.executemany("INSERT OR IGNORE INTO journal VALUES (?, ?, ?, ?)", rows)
    with earlier.transaction() as connection:
        connection.execute("DELETE FROM journal")
