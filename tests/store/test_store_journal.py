"""The journal's rows: durable, of one account, and reported where they are damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from imagefs.core.intents import Creation, Deletion, Remark
from imagefs.store import schema
from imagefs.store.index import Index
from imagefs.store.journal import JournalTable

CREATION = Creation(
    "montreal", "b\udc80", 7, ("a",), "1", 10**12, "0" * 32, move=True, known_ids=frozenset("12")
)


def test_intents_come_back_after_a_restart(tmp_path: Path) -> None:
    """In the order of their numbers, apart from another account's; replaced and removed in one transaction."""
    index = Index(tmp_path / "index")
    mine, yours = JournalTable(index.database, "me"), JournalTable(index.database, "you")
    mine.write({2: Deletion("5"), 1: CREATION, 3: Remark(("9",), error="x")}, [])
    yours.write({1: Deletion("6")}, [])
    mine.write({2: Deletion("7", "8")}, [3, 99])
    index.close()
    index = Index(tmp_path / "index")
    loaded = JournalTable(index.database, "me").load()
    assert list(loaded.items()) == [(1, CREATION), (2, Deletion("7", "8"))]
    assert JournalTable(index.database, "you").load() == {1: Deletion("6")}
    index.close()


@pytest.mark.parametrize("damage", ["intent = x'5b5d'", "number = number + 5", "account = x'6d65'"])
def test_a_damaged_row_is_reported_once(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is never carried out, and the others are."""
    index = Index(tmp_path / "index")
    JournalTable(index.database, "me").write({1: CREATION}, [])
    JournalTable(index.database, "you").write({2: Deletion("6")}, [])
    index.close()
    connection = sqlite3.connect(tmp_path / "index")
    connection.execute(f"UPDATE journal SET {damage} WHERE number = 2")
    connection.commit()
    connection.close()
    index = Index(tmp_path / "index")
    journals = [JournalTable(index.database, account) for account in ("me", "you")]
    assert [journal.load() for journal in journals] == [{1: CREATION}, {}]
    assert [journal.load() for journal in journals] == [{1: CREATION}, {}]
    assert len(caplog.records) == 1
    assert "unfinished change" in caplog.text
    index.close()


def test_an_index_of_the_first_version_gets_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it held stays."""
    path = tmp_path / "index"
    connection = sqlite3.connect(path)
    for statement in schema.MIGRATIONS[0]:
        connection.execute(statement)
    connection.execute("PRAGMA user_version = 1")
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    row = (b"me", b"1", "5")
    connection.execute(
        "INSERT INTO local_time VALUES (?, ?, ?, ?)", (*row, schema.seal_of("local_time", *row))
    )
    connection.commit()
    connection.close()
    index = Index(path)
    assert index.load_mtimes("me") == {"1": 5}
    journal = JournalTable(index.database, "me")
    assert journal.load() == {}
    journal.write({1: CREATION}, [])
    index.close()
