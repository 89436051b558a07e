"""The tables of the index and their versions.

Each entry of `MIGRATIONS` leads from one version to the next; a released entry never changes. The version is
SQLite's ``user_version``. Every row carries a seal over its other columns (`seal_of`), since SQLite itself
does not notice a flipped bit in a value. Used by `database` and `index`.

Names, accounts and image ids are stored as bytes where they come from outside, because they may hold lone
surrogates, which SQLite's text cannot.
"""

from __future__ import annotations

from typing import Final

import xxhash

APPLICATION_ID: Final = 0x696D6673
"""Marks the file as ours (``PRAGMA application_id``); "imfs"."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
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
    (
        """CREATE TABLE journal (
            account BLOB NOT NULL,
            number INTEGER NOT NULL,
            intent BLOB NOT NULL,
            seal BLOB NOT NULL,
            PRIMARY KEY (account, number)
        ) STRICT, WITHOUT ROWID""",
    ),
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

VERSION: Final = len(MIGRATIONS)


def seal_of(table: str, *columns: object) -> bytes:
    """The seal of a row of *table*: XXH3 over its columns, each with its length before it, 8 bytes."""
    parts = [table.encode()]
    for column in columns:
        encoded = column if isinstance(column, bytes) else str(column).encode("utf-8", "surrogatepass")
        parts.append(b"|%d:" % len(encoded))
        parts.append(encoded)
    return xxhash.xxh3_64_digest(b"".join(parts))
