"""A look at a cache from outside: beside the mount that has it, and at whatever else may be there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from store_cases import MIB, key_of, open_cache, write

from imagefs.core.models import ImageDetails
from imagefs.store.peek import peek_cached_bytes, peek_details

KEY = key_of(1, 2 * MIB)


def details(image_id: str) -> ImageDetails:
    """Details of an active image."""
    fields = (("disk_format", "iso"), ("name", "a\ud800"))
    return ImageDetails(image_id, "a\ud800", "toronto", "active", KEY.size_bytes, KEY.checksum, 5, fields)


def test_what_is_cached_is_seen_beside_the_one_who_has_it(tmp_path: Path) -> None:
    """Without its lock; what a look finds is no more than the content."""
    cache = open_cache(tmp_path)
    try:
        assert peek_cached_bytes(tmp_path, KEY) == 0
        stored = cache.content(KEY)
        write(stored, 0, 8)
        stored.flush()
        assert 0 < peek_cached_bytes(tmp_path, KEY) <= 2 * MIB
        stored.close()
    finally:
        cache.close()
    assert peek_cached_bytes(tmp_path / "nowhere", KEY) == 0


def test_details_of_a_cache_at_rest(tmp_path: Path) -> None:
    """Those of the account alone, and nothing is changed by looking."""
    cache = open_cache(tmp_path)
    cache.index.save_details("mine", [details("1"), details("2")])
    cache.index.save_details("other", [details("3")])
    beside = peek_details(tmp_path, "mine")  # as much as is in the file by now
    assert set(beside) <= {"1", "2"}
    cache.close()
    before = sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir())
    assert peek_details(tmp_path, "mine") == {"1": details("1"), "2": details("2")}
    assert sorted((path.name, path.stat().st_mtime_ns) for path in tmp_path.iterdir()) == before


def test_what_cannot_be_trusted_is_not_known(tmp_path: Path) -> None:
    """No index, one that is damaged, and a row whose seal is wrong."""
    assert peek_details(tmp_path, "mine") == {}
    (tmp_path / "index").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    assert peek_details(tmp_path, "mine") == {}
    (tmp_path / "index").unlink()
    cache = open_cache(tmp_path)
    cache.index.save_details("mine", [details("1"), details("2")])
    cache.close()
    with closing(sqlite3.connect(tmp_path / "index")) as connection:
        connection.execute("UPDATE details SET fields = ? WHERE image_id = ?", (b"{}", b"1"))
        connection.commit()
    assert set(peek_details(tmp_path, "mine")) == {"2"}
