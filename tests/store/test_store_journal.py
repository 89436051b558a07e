"""The journal's rows: durable, of one account, and reported where they are damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from store_cases import open_cache

from imagefs.core.intents import Creation, Deletion, Remark, dump_intent
from imagefs.store.database import Database
from imagefs.store.journal import JournalTable
from imagefs.store.schema import INDEX, JOURNAL, seal_of

CREATION = Creation(
    "montreal", "b\udc80", 7, ("a",), "1", 10**12, "0" * 32, move=True, known_ids=frozenset("12")
)


def test_intents_come_back_after_a_restart(tmp_path: Path) -> None:
    """In the order of their numbers, apart from another account's; replaced and removed in one transaction."""
    database = Database(tmp_path / "journal", JOURNAL)
    mine, yours = JournalTable(database, "me"), JournalTable(database, "you")
    mine.write({2: Deletion("5"), 1: CREATION, 3: Remark(("9",), error="x")}, [])
    yours.write({1: Deletion("6")}, [])
    mine.write({2: Deletion("7", "8")}, [3, 99])
    database.close()
    database = Database(tmp_path / "journal", JOURNAL)
    loaded = JournalTable(database, "me").load()
    assert list(loaded.items()) == [(1, CREATION), (2, Deletion("7", "8"))]
    assert JournalTable(database, "you").load() == {1: Deletion("6")}
    database.close()


@pytest.mark.parametrize("damage", ["intent = x'5b5d'", "number = number + 5", "account = x'6d65'"])
def test_a_damaged_row_is_reported_once(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is never carried out, and the others are."""
    database = Database(tmp_path / "journal", JOURNAL)
    JournalTable(database, "me").write({1: CREATION}, [])
    JournalTable(database, "you").write({2: Deletion("6")}, [])
    database.close()
    connection = sqlite3.connect(tmp_path / "journal")
    connection.execute(f"UPDATE journal SET {damage} WHERE number = 2")
    connection.commit()
    connection.close()
    database = Database(tmp_path / "journal", JOURNAL)
    journals = [JournalTable(database, account) for account in ("me", "you")]
    assert [journal.load() for journal in journals] == [{1: CREATION}, {}]
    assert [journal.load() for journal in journals] == [{1: CREATION}, {}]
    assert len(caplog.records) == 1
    assert "unfinished change" in caplog.text
    database.close()


def test_a_damaged_index_leaves_the_journal_alone(path: Path) -> None:
    """What the mount has set out to do is in a file of its own."""
    cache = open_cache(path)
    JournalTable(cache.journal, "me").write({1: CREATION}, [])
    cache.close()
    (path / "index").write_bytes(b"no database at all" * 500)
    cache = open_cache(path)
    assert len(cache.problems) == 1
    assert JournalTable(cache.journal, "me").load() == {1: CREATION}
    cache.close()


def unreadable(raw: bytearray) -> None:
    """Damage the header, so that nothing can be read."""
    raw[:100] = bytes(100)


def changed_definition(raw: bytearray) -> None:
    """Damage a word of the table's definition that reading the rows does not need."""
    place = raw.index(b"intent BLOB NOT NULL")
    raw[place : place + 6] = b"Intent"


FETCHED = Creation("toronto", "c", 7, ("c",), location="https://x")


@pytest.mark.parametrize("damage", [unreadable, changed_definition])
def test_a_damaged_journal_is_reported(path: Path, damage: Callable[[bytearray], None]) -> None:
    """Nothing of it is carried out; where intents can be read, each is told, in the log and on its images."""
    wanted = {1: CREATION, 2: Deletion("5", "6"), 3: Remark(("9",), error="x"), 4: FETCHED}
    cache = open_cache(path)
    JournalTable(cache.journal, "me").write(wanted, [])
    cache.close()
    raw = bytearray((path / "journal").read_bytes())
    damage(raw)
    (path / "journal").write_bytes(raw)
    cache = open_cache(path)
    left = JournalTable(cache.journal, "me").load()
    assert "the cache's journal was damaged" in cache.problems[0]
    assert "look in the account" in cache.problems[1]
    if damage is unreadable:
        assert left == {}
        assert len(cache.problems) == 2
    else:
        assert [problem.rpartition(": ")[2] for problem in cache.problems[2:]] == [
            "image 1 was to be moved to 'montreal' as 'b\\udc80'",
            "image 5 was to be deleted",
            "'c' was to be fetched to 'toronto' from 'https://x'",
        ]
        assert set(left) == {1, 2, 3}
        assert left[3] == wanted[3]
        assert [left[number].image_ids for number in (1, 2)] == [("1",), ("5", "6")]
        assert "image 5 was to be deleted" in str(left[2])
    cache.close()
    cache = open_cache(path)
    assert cache.problems == []
    assert JournalTable(cache.journal, "me").load() == left
    cache.close()


@pytest.mark.parametrize("version", [1, 2])
def test_the_journal_of_an_earlier_version_is_taken_over(path: Path, version: int) -> None:
    """What the index held stays, and its intents move to the journal's own file, once."""
    path.mkdir(parents=True)
    connection = sqlite3.connect(path / "index")
    for statements in INDEX.migrations[:version]:
        for statement in statements:
            connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.execute(f"PRAGMA application_id = {INDEX.application_id}")
    row = (b"me", b"1", "5")
    connection.execute("INSERT INTO local_time VALUES (?, ?, ?, ?)", (*row, seal_of("local_time", *row)))
    expected = {}
    if version == 2:
        expected = {7: CREATION}
        intent = (b"me", 7, dump_intent(CREATION))
        connection.execute("INSERT INTO journal VALUES (?, ?, ?, ?)", (*intent, seal_of("journal", *intent)))
    connection.commit()
    connection.close()
    cache = open_cache(path)
    assert cache.problems == []
    assert cache.index.load_mtimes("me") == {"1": 5}
    journal = JournalTable(cache.journal, "me")
    assert journal.load() == expected
    journal.write({}, [7])
    cache.close()
    cache = open_cache(path)
    assert JournalTable(cache.journal, "me").load() == {}
    cache.close()
