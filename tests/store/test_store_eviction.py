"""What is evicted when the cache is full: the longest unused, never what is hot, and never more than needed."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_cases import MIB, content_file, key_of, make_room, open_cache, present_blocks, write, write_all

from imagefs.errors import CacheFull, CacheUnusable
from imagefs.store.blocks import BLOCK_BYTES, SEGMENT_BYTES
from imagefs.store.content_file import StoredContent
from imagefs.store.directory import CacheDirectory
from imagefs.store.space import Limits, Space


def segments_present(cache: CacheDirectory, numbers: range) -> list[tuple[int, int]]:
    """(content, segment) of what is present in the contents *numbers* of 32 MiB."""
    found = []
    for number in numbers:
        content = cache.content(key_of(number, 32 * MIB))
        found += [
            (number, segment) for segment in range(4) if content.has_blocks(segment * 64, segment * 64 + 1)
        ]
        content.close()
    return found


def test_idle_contents_go_first(path: Path) -> None:
    """A content that is not open gives way before an older one that is."""
    cache = open_cache(path, max_bytes=48 * MIB)
    older_open = cache.content(key_of(1, 16 * MIB))
    write_all(older_open)
    idle = cache.content(key_of(2, 16 * MIB))
    write_all(idle)
    idle.close()
    third = cache.content(key_of(3, 24 * MIB))
    write_all(third)
    assert len(present_blocks(older_open)) == 128
    assert cache.cached_bytes(idle.key) < 16 * MIB
    assert len(present_blocks(third)) == 192
    assert cache.usage().cached_bytes <= 48 * MIB
    cache.close()


def test_a_file_that_cannot_be_opened_is_passed_over(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The next longest unused contents go in its place, whatever is wrong with its file."""
    cache = open_cache(path, max_bytes=32 * MIB)
    for number in (1, 2):
        content = cache.content(key_of(number, 16 * MIB))
        write_all(content)
        content.close()
    file = content_file(path, f"md5-{1:032x}-{16 * MIB}")
    file.unlink()
    file.mkdir()
    third = cache.content(key_of(3, 12 * MIB))
    write_all(third)
    assert len(present_blocks(third)) == 96
    assert cache.cached_bytes(key_of(1, 16 * MIB)) == 16 * MIB
    assert cache.cached_bytes(key_of(2, 16 * MIB)) <= 4 * MIB
    assert "cannot be evicted" in caplog.text
    third.hot = (0, 96)
    fourth = cache.content(key_of(4, 16 * MIB))
    with pytest.raises(CacheFull):
        write_all(fourth)
    cache.close()


def test_hot_blocks_stay(path: Path) -> None:
    """Open contents give what is not hot; where all is hot, writing says that the cache is full."""
    cache = open_cache(path, max_bytes=32 * MIB)
    content = cache.content(key_of(1, 64 * MIB))
    content.hot = (64, 128)
    write(content, 0, 256)
    write(content, 256, 300)
    assert content.has_blocks(64, 128)
    assert not content.has_blocks(0, 1)
    content.hot = (0, 512)
    with pytest.raises(CacheFull):
        write(content, 300, 512)
    assert not present_blocks(content) & set(range(300, 512))
    assert all(content.check_block(block) for block in present_blocks(content))
    assert cache.usage().cached_bytes == len(present_blocks(content)) * BLOCK_BYTES
    content.hot = (0, 0)
    write(content, 300, 512)
    cache.close()


def test_what_is_being_written_is_passed_over(path: Path) -> None:
    """A segment with a write going on is not evicted; the next longest unused one goes in its place."""
    cache = open_cache(path, max_bytes=32 * MIB)
    content = cache.content(key_of(1, 64 * MIB))
    write(content, 0, 256)
    with content._ranges.hold(0, 4):
        write(content, 256, 260)
    assert content.has_blocks(0, 64)
    assert not content.has_blocks(64, 65)
    cache.close()


def test_a_content_closed_while_it_is_evicted_is_not_touched_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A content that its user closes while it is a victim stays open until the eviction is over."""
    cache = open_cache(path, max_bytes=32 * MIB)
    content = cache.content(key_of(1, 64 * MIB))
    write(content, 0, 256)
    evict = content.evict

    def evict_after_close(runs: Iterable[tuple[int, int]]) -> int:
        content.close()
        assert cache.content(content.key) is content
        content.close()
        return evict(runs)

    monkeypatch.setattr(content, "evict", evict_after_close)
    assert make_room(cache, 8 * MIB) >= 8 * MIB
    monkeypatch.undo()
    again = cache.content(content.key)
    assert again is not content
    assert not again.has_blocks(0, 64)
    assert all(again.check_block(block) for block in present_blocks(again))
    with pytest.raises(CacheUnusable):
        content.read(20 * MIB, 1)
    cache.close()


def test_the_disk_gets_its_space_back(path: Path) -> None:
    """Evicted segments take no space on the disk, and their sums stay known."""
    cache = open_cache(path, max_bytes=64 * MIB)
    content = cache.content(key_of(1, 32 * MIB))
    write_all(content)
    content.close()
    assert make_room(cache, 16 * MIB) == 0
    freed = make_room(cache, 48 * MIB)
    assert 16 * MIB <= freed <= 24 * MIB
    assert content_file(path, content.name).stat().st_blocks * 512 <= 32 * MIB - freed + BLOCK_BYTES
    again = cache.content(content.key)
    assert all(again.sum_of(block) for block in range(256))
    cache.close()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=12), st.integers(1, 11))
def test_eviction_follows_the_last_use(
    tmp_path_factory: pytest.TempPathFactory, uses: list[tuple[int, int]], victims: int
) -> None:
    """Of idle contents, exactly the longest unused segments go, whatever was used in whatever order."""
    cache = open_cache(tmp_path_factory.mktemp("order"), max_bytes=96 * MIB)
    order = []
    for number in range(3):
        content = cache.content(key_of(number, 32 * MIB))
        for segment in range(4):
            write(content, segment * 64, segment * 64 + 64)
            order.append((number, segment))
        content.close()
    for number, segment in uses:
        content = cache.content(key_of(number, 32 * MIB))
        content.touch(segment * 64 + 5, segment * 64 + 6)
        content.close()
        order.remove((number, segment))
        order.append((number, segment))
    freed = make_room(cache, victims * SEGMENT_BYTES - 6 * MIB - 1)
    assert freed == victims * SEGMENT_BYTES
    assert segments_present(cache, range(3)) == sorted(order[victims:])
    cache.close()


def right_or_evicted(content: StoredContent, block: int) -> bool:
    """Whether a block has its checksum, or another writer has had it evicted meanwhile."""
    try:
        return content.check_block(block)
    except CacheUnusable:
        return not content.present[block]


def test_the_limit_holds_for_many_writers(path: Path) -> None:
    """Threads that write at once never take the cache over its limit, and all that is present is right."""
    cache = open_cache(path, max_bytes=24 * MIB)
    seen: list[int] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            content = cache.content(key_of(number, 16 * MIB))
            for first in range(0, 128, 4):
                write(content, first, first + 4)
                seen.append(cache.usage().cached_bytes)
                if first % 32 == 0:
                    content.flush()
            assert all(right_or_evicted(content, block) for block in present_blocks(content))
            content.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [failure for failure in failures if not isinstance(failure, CacheFull)]
    assert max(seen) <= 24 * MIB
    held = cache.usage().cached_bytes
    cache.close()
    reopened = open_cache(path, max_bytes=24 * MIB)
    assert reopened.usage().cached_bytes == held
    reopened.close()


def test_where_parts_cannot_be_freed_whole_contents_go(path: Path) -> None:
    """On a file system that cannot punch holes, the longest unused content goes as a whole."""
    cache = open_cache(path, max_bytes=40 * MIB)
    cache._eviction._frees_parts = False
    for number in (1, 2):
        content = cache.content(key_of(number, 16 * MIB))
        write_all(content)
        content.close()
    third = cache.content(key_of(3, 16 * MIB))
    write_all(third)
    assert cache.cached_bytes(key_of(1, 16 * MIB)) == 0
    assert cache.cached_bytes(key_of(2, 16 * MIB)) == 16 * MIB
    cache.close()


def test_a_floor_of_free_space_is_kept() -> None:
    """Near the floor room is made first, and what does not fit is refused."""
    free_bytes = [100]
    asked: list[int] = []

    def evict(wanted_bytes: int) -> int:
        asked.append(wanted_bytes)
        freed = 10 if len(asked) < 3 else 0
        free_bytes[0] += freed
        return freed

    space = Space(Limits(1000, 50), lambda: free_bytes[0], evict, {})
    space.reserve("a", 50)
    assert asked == []
    space.reserve("a", 60)
    assert asked == [10 + 1000 // 16]
    with pytest.raises(CacheFull):
        space.reserve("a", 100)
    assert len(asked) == 3
    assert space.cached_bytes("a") == 110
    space.release("a", 110)
    assert space.usage().contents == 0


def test_a_disk_that_hangs_holds_up_nobody_who_only_asks() -> None:
    """How much of a content is cached is told on the mount's own thread."""
    asked, answering = threading.Event(), threading.Event()

    def free_bytes() -> int:
        asked.set()
        answering.wait(60)
        return 1000

    space = Space(Limits(1000, 50), free_bytes, lambda wanted: 0, {"a": 7})
    found: list[int] = []
    writer = threading.Thread(target=space.reserve, args=("b", 10))
    reader = threading.Thread(target=lambda: found.append(space.cached_bytes("a")))
    writer.start()
    assert asked.wait(60)
    reader.start()
    reader.join(10)
    before_the_answer = [*found]
    answering.set()
    writer.join()
    reader.join()
    assert before_the_answer == [7]
    assert space.cached_bytes("b") == 10
