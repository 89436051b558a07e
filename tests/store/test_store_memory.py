"""SQLite out of memory for real, by its own limit. No process can lift it again, so each case has its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BEGIN = """
import sqlite3, sys
from contextlib import suppress
from pathlib import Path
from imagefs.core.intents import Deletion
from imagefs.errors import CacheUnusable, StoreError
from imagefs.store.database import Database
from imagefs.store.journal import JournalTable
from imagefs.store.schema import JOURNAL

file = Path(sys.argv[1])

def limit():
    with suppress(MemoryError):  # it applies to this statement's own result already
        sqlite3.connect(":memory:").execute("PRAGMA hard_heap_limit = 1").fetchall()
"""

CASES = {
    "a write": """
database = Database(file, JOURNAL)
table = JournalTable(database, "me")
table.write({1: Deletion("5")}, [])
limit()
try:
    table.write({n: Deletion("x" * 9000) for n in range(2, 99)}, [])
except StoreError as error:
    print(error)
""",
    "opening": """
Database(file, JOURNAL).close()
limit()
try:
    Database(file, JOURNAL)
except CacheUnusable as error:
    print(error)
""",
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_lack_of_memory_is_no_damage(tmp_path: Path, case: str) -> None:
    """It is an error of the store, and the file is as good as before."""
    command = [sys.executable, "-c", BEGIN + case, str(tmp_path / "journal")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no memory" in done.stdout
