"""The index: what the cache claims to hold, and what is remembered of accounts, as sealed rows.

Used by `CacheDirectory` and its contents, and by the account for its listing and details. Calls come from
worker threads and take turns. A row whose seal is wrong counts as absent: it is logged and removed when met.

Every method raises `CacheFull` where there is no space for a change and `CacheUnusable` where the file fails;
callers then go on without what the index would have kept.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagefs.core.models import ContentKey, ImageDetails, ListedImage
from imagefs.store.block_table import SegmentRow
from imagefs.store.database import Database
from imagefs.store.saved_json import dump_details, dump_listing, load_details, load_listing
from imagefs.store.schema import INDEX, seal_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ContentRecord:
    """What the index keeps about a content as a whole.

    ``verified`` tells that its sums are those of content whose MD5 and size were right.
    """

    name: str
    key: ContentKey
    verified: bool


@dataclass(frozen=True, slots=True)
class SavedListing:
    """A listing of an account; ``fetched_ns`` is when the service gave it, since the epoch."""

    images: tuple[ListedImage, ...]
    fetched_ns: int


class Index:
    """The open index. Tables that other rooms need are added in `schema` and used through ``database``."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path, INDEX)

    def close(self) -> None:
        """Close the index; later calls raise `CacheUnusable`."""
        self.database.close()

    def load_contents(self) -> dict[str, ContentRecord]:
        """All contents, by their names in the cache."""
        return self._content_records(
            "SELECT name, size_bytes, checksum, image_id, verified, seal FROM content"
        )

    def load_content(self, name: str) -> ContentRecord | None:
        """The content *name*, or None."""
        query = "SELECT name, size_bytes, checksum, image_id, verified, seal FROM content WHERE name = ?"
        return self._content_records(query, name).get(name)

    def _content_records(self, query: str, *parameters: str) -> dict[str, ContentRecord]:
        records = {}
        with self.database.transaction() as connection:
            for *columns, seal in connection.execute(query, parameters).fetchall():
                name, size_bytes, checksum, image_id, verified = columns
                if seal != seal_of("content", *columns):
                    _log.warning("the cache's index is damaged at a content, which is dropped")
                    _forget_content(connection, name)
                    continue
                key = ContentKey(size_bytes, checksum, None if image_id is None else _decoded(image_id))
                records[name] = ContentRecord(name, key, bool(verified))
        return records

    def cached_bytes(self) -> dict[str, int]:
        """How many bytes of each content are claimed to be in its file, by name, without those that have none."""
        query = "SELECT name, sum(cached_bytes) FROM segment WHERE cached_bytes > 0 GROUP BY name"
        with self.database.transaction() as connection:
            return dict(connection.execute(query).fetchall())

    def last_uses(self) -> dict[str, int]:
        """When each content of which anything is cached was last used, in nanoseconds since the epoch, by name."""
        query = "SELECT name, max(used_ns) FROM segment WHERE cached_bytes > 0 GROUP BY name"
        with self.database.transaction() as connection:
            return dict(connection.execute(query).fetchall())

    def least_recently_used(self, skipped: Iterable[str], wanted_bytes: int) -> list[tuple[str, int]]:
        """(name, number) of the longest unused segments, *wanted_bytes* in all, of contents that are not *skipped*."""
        left_out = set(skipped)
        query = "SELECT name, number, cached_bytes FROM segment WHERE cached_bytes > 0 ORDER BY used_ns"
        victims = []
        with self.database.transaction() as connection:
            for name, number, cached_bytes in connection.execute(query):
                if wanted_bytes <= 0:
                    break
                if name not in left_out:
                    victims.append((name, number))
                    wanted_bytes -= cached_bytes
        return victims

    def load_segments(self, name: str) -> list[SegmentRow]:
        """The segments of content *name*, by number."""
        query = """SELECT number, cached_bytes, used_ns, present, known, sums, seal FROM segment
            WHERE name = ? ORDER BY number"""
        sound = []
        with self.database.transaction() as connection:
            for *columns, seal in connection.execute(query, (name,)).fetchall():
                if seal == seal_of("segment", name, *columns):
                    sound.append(SegmentRow._make(columns))
                    continue
                number = columns[0]
                _log.warning(
                    "the cache's index is damaged at segment %s of %s, which is dropped", number, name
                )
                connection.execute("DELETE FROM segment WHERE name = ? AND number = ?", (name, number))
        return sound

    def save_content(self, record: ContentRecord, segments: Sequence[SegmentRow]) -> None:
        """Keep *record* and *segments* of it, in one durable transaction."""
        key = record.key
        image_id = None if key.image_id is None else _encoded(key.image_id)
        columns = (record.name, key.size_bytes, key.checksum, image_id, int(record.verified))
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO content VALUES (?, ?, ?, ?, ?, ?)",
                (*columns, seal_of("content", *columns)),
            )
            connection.executemany(
                "INSERT OR REPLACE INTO segment VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(record.name, *row, seal_of("segment", record.name, *row)) for row in segments],
            )

    def forget_content(self, name: str) -> None:
        """Drop content *name* and its segments, with all sums."""
        with self.database.transaction() as connection:
            _forget_content(connection, name)

    def save_listing(self, account: str, images: Iterable[ListedImage], fetched_ns: int) -> None:
        """Keep the listing of *account*, in place of the one before."""
        columns = (_encoded(account), fetched_ns, dump_listing(images))
        with self.database.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO listing VALUES (?, ?, ?, ?)", (*columns, seal_of("listing", *columns))
            )

    def load_listing(self, account: str) -> SavedListing | None:
        """The listing of *account* that was kept last, or None."""
        query = "SELECT account, fetched_ns, images, seal FROM listing WHERE account = ?"
        for _, fetched_ns, images in self._account_rows("listing", query, account):
            return SavedListing(load_listing(images), fetched_ns)
        return None

    def save_details(self, account: str, details: Iterable[ImageDetails]) -> None:
        """Keep details of images of *account*, in place of those before."""
        rows = [(_encoded(account), _encoded(each.image_id), dump_details(each)) for each in details]
        with self.database.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO details VALUES (?, ?, ?, ?)",
                [(*columns, seal_of("details", *columns)) for columns in rows],
            )

    def load_details(self, account: str) -> dict[str, ImageDetails]:
        """All details kept for *account*, by image id."""
        query = "SELECT account, image_id, fields, seal FROM details WHERE account = ?"
        return {
            _decoded(image_id): load_details(fields)
            for _, image_id, fields in self._account_rows("details", query, account)
        }

    def forget_details(self, account: str, image_ids: Iterable[str]) -> None:
        """Drop the details of images of *account*; ids that are not there are ignored."""
        rows = [(_encoded(account), _encoded(image_id)) for image_id in image_ids]
        with self.database.transaction() as connection:
            connection.executemany("DELETE FROM details WHERE account = ? AND image_id = ?", rows)

    def set_mtime(self, account: str, image_id: str, mtime_ns: int | None) -> None:
        """Keep the modification time that a tool set, in nanoseconds since the epoch; None drops it."""
        columns = (_encoded(account), _encoded(image_id))
        with self.database.transaction() as connection:
            if mtime_ns is None:
                connection.execute("DELETE FROM local_time WHERE account = ? AND image_id = ?", columns)
                return
            row = (*columns, str(mtime_ns))
            connection.execute(
                "INSERT OR REPLACE INTO local_time VALUES (?, ?, ?, ?)", (*row, seal_of("local_time", *row))
            )

    def load_mtimes(self, account: str) -> dict[str, int]:
        """All modification times kept for *account*, by image id."""
        query = "SELECT account, image_id, mtime_ns, seal FROM local_time WHERE account = ?"
        return {
            _decoded(image_id): int(mtime_ns)
            for _, image_id, mtime_ns in self._account_rows("local_time", query, account)
        }

    def _account_rows(self, table: str, query: str, account: str) -> list[list[Any]]:
        """The sound rows that *query* finds for *account*, without their seals."""
        with self.database.transaction() as connection:
            rows = connection.execute(query, (_encoded(account),)).fetchall()
        sound = [columns for *columns, seal in rows if seal == seal_of(table, *columns)]
        if len(sound) < len(rows):
            _log.warning("the cache's index is damaged at %d rows of %s", len(rows) - len(sound), table)
        return sound


def _forget_content(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("DELETE FROM segment WHERE name = ?", (name,))
    connection.execute("DELETE FROM content WHERE name = ?", (name,))


def _encoded(text: str) -> bytes:
    """Text from outside as bytes; lone surrogates survive."""
    return text.encode("utf-8", "surrogatepass")


def _decoded(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")
