"""Which contents a person wants to keep in the cache: eviction passes over them, whatever else has to go.

Kept durably in the index, by checksum and size, whether any of the content is cached or not. Opened with
`CacheDirectory`, used by it and by the command line. Any thread.
"""

from __future__ import annotations

import logging
import threading

from imagefs.core.models import ContentKey
from imagefs.store.database import Database
from imagefs.store.layout import content_name
from imagefs.store.schema import seal_of

_log = logging.getLogger(__name__)


class Pins:
    """The pinned contents. Changes raise `CacheFull` and `CacheUnusable`, and are not made then."""

    def __init__(self, database: Database) -> None:
        """Load what was pinned. Raises CacheUnusable. A damaged row is reported in the log and removed."""
        self._database = database
        self._changing = threading.Lock()  # while the disk works
        self._lock = threading.Lock()  # never for long: the mount itself asks
        self._keys: dict[str, ContentKey] = {}
        with database.transaction() as connection:
            rows = connection.execute("SELECT name, size_bytes, checksum, image_id, seal FROM pin").fetchall()
            for *columns, seal in rows:
                name, size_bytes, checksum, image_id = columns
                if seal == seal_of("pin", *columns):
                    text = None if image_id is None else image_id.decode("utf-8", "surrogatepass")
                    self._keys[name] = ContentKey(size_bytes, checksum, text)
                    continue
                _log.warning("the record of a pinned image is damaged: pin it again")
                connection.execute("DELETE FROM pin WHERE name = ?", (name,))

    def __contains__(self, name: str) -> bool:
        """Whether the content *name* (`content_name`) is pinned."""
        return name in self._keys

    def names(self) -> set[str]:
        """The names of all that is pinned."""
        with self._lock:
            return set(self._keys)

    def contents(self) -> list[ContentKey]:
        """The keys of all that is pinned."""
        with self._lock:
            return list(self._keys.values())

    def add(self, key: ContentKey) -> None:
        """Keep the content of *key* from now on; durable when this returns."""
        name = content_name(key)
        image_id = None if key.image_id is None else key.image_id.encode("utf-8", "surrogatepass")
        columns = (name, key.size_bytes, key.checksum, image_id)
        with self._changing:
            with self._database.transaction() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO pin VALUES (?, ?, ?, ?, ?)", (*columns, seal_of("pin", *columns))
                )
            with self._lock:
                self._keys[name] = key

    def remove(self, key: ContentKey) -> None:
        """Let the content of *key* be evicted again; does nothing if it is not pinned."""
        name = content_name(key)
        with self._changing:
            with self._database.transaction() as connection:
                connection.execute("DELETE FROM pin WHERE name = ?", (name,))
            with self._lock:
                self._keys.pop(name, None)
