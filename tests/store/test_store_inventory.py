"""What people ask of the cache by name: what is in it, whether it is right, to keep it, to let it go."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from store_cases import MIB, content_file, key_of, open_cache, present_blocks, write, write_all

from imagefs.core.models import ContentKey
from imagefs.errors import CacheFull, CacheUnusable
from imagefs.store import CachedContent, Verification
from imagefs.store.blocks import BLOCK_BYTES
from imagefs.store.directory import CacheDirectory

NAMELESS = ContentKey(MIB, None, "7\udc80")


def test_what_is_pinned_is_never_evicted(path: Path) -> None:
    """Neither idle nor open, though it is the longest unused; where nothing else is there, the cache is full."""
    cache = open_cache(path, max_bytes=32 * MIB)
    for number in (1, 2):
        content = cache.content(key_of(number, 12 * MIB))
        write_all(content)
        content.close()
    cache.pins.add(key_of(1, 12 * MIB))
    kept = cache.content(key_of(1, 12 * MIB))
    third = cache.content(key_of(3, 64 * MIB))
    write(third, 0, 128)
    assert len(present_blocks(kept)) == 96
    kept.close()
    third.hot = (0, 512)
    with pytest.raises(CacheFull):
        write(third, 128, 256)
    assert cache.cached_bytes(kept.key) == 12 * MIB
    cache.pins.remove(kept.key)
    write(third, 128, 256)
    assert cache.cached_bytes(kept.key) < 12 * MIB
    third.close()
    cache.close()


def test_pins_survive_a_restart(path: Path, cache: CacheDirectory) -> None:
    """Also of what was never cached and of what has no checksum; one that was taken back does not."""
    for key in (key_of(1, MIB), key_of(2, MIB), NAMELESS):
        cache.pins.add(key)
        cache.pins.add(key)
    cache.pins.remove(key_of(2, MIB))
    cache.pins.remove(key_of(3, MIB))
    cache.close()
    again = open_cache(path)
    assert set(again.pins.contents()) == {key_of(1, MIB), NAMELESS}
    rows = again.cached_contents()
    assert {row.key for row in rows} == {key_of(1, MIB), NAMELESS}
    assert all(row.pinned and not row.cached_bytes for row in rows)
    again.close()


def test_a_damaged_pin_is_told(path: Path, cache: CacheDirectory, caplog: pytest.LogCaptureFixture) -> None:
    """It counts as none, and the others stay."""
    cache.pins.add(key_of(1, MIB))
    cache.pins.add(key_of(2, MIB))
    cache.close()
    connection = sqlite3.connect(path / "index")
    connection.execute("UPDATE pin SET size_bytes = size_bytes + 1 WHERE name LIKE '%2-1048576'")
    connection.commit()
    connection.close()
    again = open_cache(path)
    assert again.pins.contents() == [key_of(1, MIB)]
    assert "pin it again" in caplog.text
    again.close()


def test_a_pin_that_cannot_be_kept_is_none(cache: CacheDirectory) -> None:
    """Where the index fails, nothing is pinned, and what is pinned stays so."""
    cache.pins.add(key_of(1, MIB))
    cache.index.close()
    with pytest.raises(CacheUnusable):
        cache.pins.add(key_of(2, MIB))
    with pytest.raises(CacheUnusable):
        cache.pins.remove(key_of(1, MIB))
    assert cache.pins.contents() == [key_of(1, MIB)]


def test_what_is_pinned_is_told_while_the_disk_works(cache: CacheDirectory) -> None:
    """The mount itself asks for it, which must not wait until something else is pinned."""
    cache.pins.add(key_of(1, MIB))
    found: list[list[ContentKey]] = []
    pinning = threading.Thread(target=cache.pins.add, args=(key_of(2, MIB),))
    asking = threading.Thread(target=lambda: found.append(cache.pins.contents()))
    with cache.index.database.transaction():
        pinning.start()
        pinning.join(0.05)
        asking.start()
        asking.join(10)
        assert found == [[key_of(1, MIB)]]
    pinning.join()
    assert cache.pins.contents() == [key_of(1, MIB), key_of(2, MIB)]


def test_what_is_cached_is_listed(cache: CacheDirectory) -> None:
    """Bytes and last use of each content, the longest unused first, whether it is open or not."""
    first, second = cache.content(key_of(1, 2 * MIB)), cache.content(key_of(2, 32 * MIB))
    write_all(first)
    first.mark_verified()
    write(second, 0, 3)
    first.touch(0, 0)
    cache.content(key_of(3, MIB)).close()
    cache.pins.add(second.key)
    rows = cache.cached_contents()
    assert [(row.key, row.cached_bytes, row.verified, row.pinned) for row in rows] == [
        (second.key, 3 * BLOCK_BYTES, False, True),
        (first.key, 2 * MIB, True, False),
    ]
    assert 0 < rows[0].used_ns < rows[1].used_ns
    first.close()
    second.close()
    assert cache.cached_contents() == rows


def test_one_content_is_evicted(path: Path, cache: CacheDirectory) -> None:
    """All of it that no reader is at, and nothing of another's; what is pinned stays."""
    keys = [key_of(number, 32 * MIB) for number in (1, 2)]
    for key in keys:
        content = cache.content(key)
        write_all(content)
        content.close()
    open_one = cache.content(keys[0])
    open_one.hot = (0, 1)
    assert cache.evict(keys[0]) == 24 * MIB
    open_one.hot = (0, 0)
    open_one.close()
    assert cache.evict(keys[0]) == 8 * MIB
    assert content_file(path, open_one.name).stat().st_blocks == 0
    assert cache.evict(keys[0]) == cache.evict(key_of(9, MIB)) == 0
    assert not content_file(path, f"md5-{9:032x}-{MIB}").exists()
    cache.pins.add(keys[1])
    assert cache.evict(keys[1]) == 0
    assert cache.cached_contents() == [
        CachedContent(keys[1], 32 * MIB, cache.cached_contents()[0].used_ns, verified=False, pinned=True)
    ]


def test_one_content_is_verified(path: Path, cache: CacheDirectory) -> None:
    """Damaged blocks are found and forgotten; the others stay; what is not cached is not looked at."""
    key = key_of(1, 2 * MIB + 5)
    content = cache.content(key)
    write_all(content)
    content.forget_blocks([4])
    content.mark_verified()
    content.close()
    with content_file(path, content.name).open("r+b") as file:
        for place in (3 * BLOCK_BYTES + 77, 2 * MIB):
            file.seek(place)
            file.write(b"?")
    assert cache.verify(key) == Verification(2 * MIB + 5 - BLOCK_BYTES, BLOCK_BYTES + 5)
    assert cache.verify(key) == Verification(2 * MIB - 2 * BLOCK_BYTES, 0)
    assert cache.cached_bytes(key) == 2 * MIB - 2 * BLOCK_BYTES


def test_an_index_without_pins_gets_some(path: Path, cache: CacheDirectory) -> None:
    """What an earlier version of the index holds stays."""
    content = cache.content(key_of(1, MIB))
    write_all(content)
    cache.close()
    connection = sqlite3.connect(path / "index")
    connection.execute("DROP TABLE pin")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    again = open_cache(path)
    assert again.problems == []
    assert again.cached_bytes(content.key) == MIB
    again.pins.add(content.key)
    again.close()
