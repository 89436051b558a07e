"""The tables of the index and of the journal, and their versions.

Each entry of a schema's ``migrations`` leads from one version to the next; a released entry never changes. The
version is SQLite's ``user_version``. Every row carries a seal over its other columns (`seal_of`), since SQLite
itself does not notice a flipped bit in a value. Used by `database` and by those who have tables in it.

Names, accounts and image ids are stored as bytes where they come from outside, because they may hold lone
surrogates, which SQLite's text cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import xxhash


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of one file. ``application_id`` marks it as ours (``PRAGMA application_id``).

    ``title`` is what messages call the file; each of ``migrations`` is statements.
    """

    title: str
    application_id: int
    migrations: tuple[tuple[str, ...], ...]

    @property
    def version(self) -> int:
        """The newest version."""
        return len(self.migrations)


_JOURNAL_TABLE: Final = """CREATE TABLE journal (
            account BLOB NOT NULL,
            number INTEGER NOT NULL,
            intent BLOB NOT NULL,
            seal BLOB NOT NULL,
            PRIMARY KEY (account, number)
        ) STRICT, WITHOUT ROWID"""

_INDEX_MIGRATIONS: Final = (
    (
        """CREATE TABLE content (
            name TEXT NOT NULL PRIMARY KEY,
            size_bytes INTEGER NOT NULL,
            checksum TEXT,
            image_id BLOB,
            verified INTEGER NOT NULL,
            seal BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE segment (
            name TEXT NOT NULL,
            number INTEGER NOT NULL,
            cached_bytes INTEGER NOT NULL,
            used_ns INTEGER NOT NULL,
            present BLOB NOT NULL,
            known BLOB NOT NULL,
            sums BLOB NOT NULL,
            seal BLOB NOT NULL,
            PRIMARY KEY (name, number)
        ) STRICT, WITHOUT ROWID""",
        """CREATE INDEX segment_by_use ON segment (used_ns, name, number, cached_bytes)
            WHERE cached_bytes > 0""",
        """CREATE TABLE listing (
            account BLOB NOT NULL PRIMARY KEY,
            fetched_ns INTEGER NOT NULL,
            images BLOB NOT NULL,
            seal BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE details (
            account BLOB NOT NULL,
            image_id BLOB NOT NULL,
            fields BLOB NOT NULL,
            seal BLOB NOT NULL,
            PRIMARY KEY (account, image_id)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE local_time (
            account BLOB NOT NULL,
            image_id BLOB NOT NULL,
            mtime_ns TEXT NOT NULL,
            seal BLOB NOT NULL,
            PRIMARY KEY (account, image_id)
        ) STRICT, WITHOUT ROWID""",
    ),
    (_JOURNAL_TABLE,),  # of an earlier version, empty since the journal has a file of its own
    (
        """CREATE TABLE pin (
            name TEXT NOT NULL PRIMARY KEY,
            size_bytes INTEGER NOT NULL,
            checksum TEXT,
            image_id BLOB,
            seal BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
)

INDEX: Final = Schema("the cache's index", 0x696D6673, _INDEX_MIGRATIONS)
""""imfs"."""

JOURNAL: Final = Schema("the cache's journal", 0x696D666A, ((_JOURNAL_TABLE,),))
""""imfj"."""


def seal_of(table: str, *columns: object) -> bytes:
    """The seal of a row of *table*: XXH3 over its columns, each with its length before it, 8 bytes."""
    parts = [table.encode()]
    for column in columns:
        encoded = column if isinstance(column, bytes) else str(column).encode("utf-8", "surrogatepass")
        parts.append(b"|%d:" % len(encoded))
        parts.append(encoded)
    return xxhash.xxh3_64_digest(b"".join(parts))
