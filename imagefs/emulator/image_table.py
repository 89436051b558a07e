"""The account's images on disk, so that the emulator can be ended and started again.

One SQLite table with a row an image, so that a change costs the same whatever the size of the account. Used
by the account alone, under its lock.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagefs.emulator.images import Image

_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    position INTEGER PRIMARY KEY, image_id TEXT UNIQUE NOT NULL, image TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS next_ids (series TEXT PRIMARY KEY, next_id INTEGER NOT NULL);
"""


class ImageTable:
    """The images and the next ids, in the SQLite file at *path*."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        # A process that is killed loses nothing in this mode; a power loss may take back the last changes.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_SCHEMA)

    def images(self) -> Iterator[Image]:
        """All images, in the order in which they were added."""
        for (text,) in self._database.execute("SELECT image FROM images ORDER BY position"):
            yield Image.from_json(json.loads(text))

    def put(self, image: Image) -> None:
        """Add *image*, or put it in the place of the one with its id."""
        self._database.execute(
            "INSERT INTO images (image_id, image) VALUES (?, ?)"
            " ON CONFLICT (image_id) DO UPDATE SET image = excluded.image",
            (image.image_id, json.dumps(image.to_json())),
        )

    def remove(self, image_id: str) -> None:
        """Remove the image with that id."""
        self._database.execute("DELETE FROM images WHERE image_id = ?", (image_id,))

    def next_id(self, series: str, first: int) -> int:
        """The next number of *series*, which begins with *first*; no number is given out twice."""
        row = self._database.execute(
            "INSERT INTO next_ids (series, next_id) VALUES (?, ? + 1)"
            " ON CONFLICT (series) DO UPDATE SET next_id = next_id + 1 RETURNING next_id - 1",
            (series, first),
        ).fetchone()
        return int(row[0])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all changes made inside, or none: much faster than one by one."""
        self._database.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def close(self) -> None:
        """Close the file."""
        self._database.close()
