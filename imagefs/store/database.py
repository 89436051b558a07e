"""The SQLite files beneath index and journal: opening, noticing damage, transactions, errors in the store's terms.

One connection each, used by one thread at a time under its lock. The file is locked exclusively, as the cache
directory has one owner; SQLite then keeps its shared memory on the heap, where a full disk cannot hurt it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imagefs.errors import CacheFull, CacheUnusable, StoreError
from imagefs.store.schema import Schema

_PRAGMAS: Final = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cell_size_check = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cache_size = -256",  # KiB; by default, up to 2 MiB of each database stay in memory
)


_ENVIRONMENT: Final = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
)
"""Failures that the disk or the machine is to blame for; with any other failure to open, the file is damaged."""

_FAILURES: Final = (sqlite3.Error, UnicodeError, MemoryError)
"""What sqlite3 raises: UnicodeError for messages from a damaged file, MemoryError for `SQLITE_NOMEM`."""


class Damaged(Exception):  # a state of the file, for `open_index` alone and never shown to users
    """The file is not a sound database of ours."""


class Database:
    """An open file with the tables of *schema*.

    Raises from its constructor:
        Damaged: the file cannot be trusted, and a fresh one should take its place.
        CacheUnusable: it was made by a newer version, or the disk fails.
        CacheFull: there is no space for it.

    """

    def __init__(self, path: Path, schema: Schema) -> None:
        self._schema = schema
        self._lock = threading.RLock()
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (sqlite3.Error, MemoryError) as error:
            raise self._store_error(error) from error
        try:
            self._prepare()
        except _FAILURES as error:
            self._connection.close()
            if _primary_code(error) in _ENVIRONMENT:
                raise self._store_error(error) from error
            raise Damaged(str(error)) from error
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        for pragma in _PRAGMAS:
            self._connection.execute(pragma)
        problems = [str(row[0]) for row in self._connection.execute("PRAGMA integrity_check(1)")]
        if problems != ["ok"]:
            raise Damaged(problems[0])
        version = self._number("PRAGMA user_version")
        tables = self._number("SELECT count(*) FROM sqlite_schema")
        if tables and self._number("PRAGMA application_id") != self._schema.application_id:
            raise Damaged("it is another program's database")
        if version > self._schema.version:
            raise CacheUnusable(
                f"{self._schema.title} was made by a newer version of imagefs; use another directory"
            )
        self._connection.execute("BEGIN")
        migrate(self._connection, self._schema, version if tables else 0)
        self._connection.execute("COMMIT")
        if _shape(self._connection) != _expected_shape(self._schema):
            raise Damaged("its tables are not as they should be")

    def _number(self, query: str) -> int:
        return int(self._connection.execute(query).fetchone()[0])

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction, for reading too: durable when the block ends, undone when it raises.

        Raises:
            CacheFull: there is no space for it.
            CacheUnusable: any other failure of the database.

        """
        with self._lock:
            self._roll_back()  # what an earlier failure could not undo
            try:
                self._connection.execute("BEGIN")
                yield self._connection
                self._connection.execute("COMMIT")
            except _FAILURES as error:
                self._roll_back()
                raise self._store_error(error) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except (sqlite3.Error, MemoryError):
            return  # the cause is being raised already; the next transaction, or opening the file, undoes the rest

    def close(self) -> None:
        """Close the file; later calls raise `CacheUnusable`."""
        with self._lock:
            try:
                self._connection.close()
            except sqlite3.Error as error:
                raise self._store_error(error) from error

    def _store_error(self, error: Exception) -> StoreError:
        if _primary_code(error) == sqlite3.SQLITE_FULL:
            return CacheFull(f"there is no space left for {self._schema.title}")
        if _primary_code(error) == sqlite3.SQLITE_NOMEM:
            return CacheUnusable(f"there is no memory left for {self._schema.title}")
        return CacheUnusable(f"{self._schema.title} cannot be used: {error}")


def migrate(connection: sqlite3.Connection, schema: Schema, version: int) -> None:
    """Bring the tables from *version* to the newest of *schema*.

    The version is written in any case, so that a file that cannot be written is noticed here.
    """
    for statements in schema.migrations[version:]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {schema.version}")
    connection.execute(f"PRAGMA application_id = {schema.application_id}")


def _shape(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def _expected_shape(schema: Schema) -> list[tuple[str, str, str]]:
    connection = sqlite3.connect(":memory:")
    try:
        migrate(connection, schema, 0)
        return _shape(connection)
    finally:
        connection.close()


def _primary_code(error: Exception) -> int:
    """The primary result code (sqlite.org/rescode.html), 0 where the error is not SQLite's own."""
    if isinstance(error, MemoryError):
        return sqlite3.SQLITE_NOMEM
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
