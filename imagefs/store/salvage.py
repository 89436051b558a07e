"""What a damaged journal still tells: the intents that are not carried out any more, for people to look after.

A row whose seal is right was written by us. But what the rest of the file said is lost, so the intent is not acted
upon: the images it is about get a remark, and the log gets a line. Used when the cache is opened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

from imagefs.core.intents import Creation, Deletion, Intent, Remark, load_intent
from imagefs.store.database import Database
from imagefs.store.journal import JournalTable
from imagefs.store.schema import seal_of


def report_lost_intents(damaged: Path, journal: Database) -> list[str]:
    """A sentence for each open intent in the file *damaged*; the fresh *journal* gets a remark on its images.

    Raises:
        CacheFull, CacheUnusable: the remarks could not be written.

    """
    sentences = []
    for account, number, intent in _sound_rows(damaged):
        remark = intent if isinstance(intent, Remark) else _remark_on(intent)
        if not isinstance(intent, Remark):
            sentences.append(f"not carried out any more: {_description(intent)}")
        if remark.image_ids:
            JournalTable(journal, account).write({number: remark}, [])
    return sentences


def _sound_rows(damaged: Path) -> Iterator[tuple[str, int, Intent]]:
    """(account, number, intent) of the rows that can be read and fit their seals."""
    with suppress(sqlite3.Error, UnicodeError), closing(sqlite3.connect(damaged)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        for account, number, raw, seal in connection.execute(
            "SELECT account, number, intent, seal FROM journal"
        ):
            intent = load_intent(raw) if seal == seal_of("journal", account, number, raw) else None
            if intent is not None:
                yield account.decode("utf-8", "surrogatepass"), number, intent


def _description(intent: Creation | Deletion) -> str:
    if isinstance(intent, Deletion):
        return f"image {intent.image_id} was to be deleted"
    if intent.source_id is None:
        return f"{intent.name!a} was to be fetched to {intent.region!a} from {intent.location!a}"
    verb = "moved" if intent.move else "copied"
    return f"image {intent.source_id} was to be {verb} to {intent.region!a} as {intent.name!a}"


def _remark_on(intent: Creation | Deletion) -> Remark:
    text = f"The journal was damaged and this is not carried out any more: {_description(intent)}."
    return Remark(_images_of(intent), error=text)


def _images_of(intent: Creation | Deletion) -> tuple[str, ...]:
    ids = (
        (intent.source_id, intent.image_id)
        if isinstance(intent, Creation)
        else (intent.image_id, intent.replica_id)
    )
    return tuple(image_id for image_id in ids if image_id is not None)
