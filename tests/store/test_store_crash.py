"""What a process that dies at any point leaves behind, and a disk that fails at any call."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from store_cases import MIB, content_file, key_of, open_cache, present_blocks, write, write_all

from imagefs.errors import CacheFull, CacheUnusable, StoreError
from imagefs.store.directory import CacheDirectory

ROUNDS = 24
CONTENTS = 3
CONTENT_BYTES = 12 * MIB + 17

WORKER = """
import contextlib
import random
import sys
import threading
from pathlib import Path

sys.path.insert(0, sys.argv[2])
from store_cases import key_of, open_cache, write
from imagefs.errors import CacheFull

cache = open_cache(Path(sys.argv[1]), max_bytes=24 << 20)
print("running", flush=True)


def work(number):
    chance = random.Random(f"{sys.argv[3]} {number}")
    while True:
        content = cache.content(key_of(chance.randrange(3), (12 << 20) + 17))
        for _ in range(chance.randrange(1, 6)):
            first = chance.randrange(97)
            with contextlib.suppress(CacheFull):
                write(content, first, min(97, first + chance.randrange(1, 12)))
            if chance.random() < 0.4:
                content.flush()
            if chance.random() < 0.2:
                content.forget_blocks([chance.randrange(97)])
            if chance.random() < 0.03:
                content.drop()
        content.close()


for number in range(3):
    threading.Thread(target=work, args=(number,), daemon=True).start()
threading.Event().wait()
"""


def check_everything(cache: CacheDirectory) -> int:
    """Compare every block that is claimed with its sum: how many there are."""
    checked = 0
    for number in range(CONTENTS):
        content = cache.content(key_of(number, CONTENT_BYTES))
        for block in present_blocks(content):
            assert content.check_block(block)
            checked += 1
        content.close()
    return checked


def test_a_killed_process_leaves_only_what_is_proved(path: Path) -> None:
    """After SIGKILL at any moment of writing, flushing, forgetting and evicting, every claimed block is right."""
    chance = random.Random(4)
    checked = 0
    for number in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path), str(Path(__file__).parent), str(number)],
            stdout=subprocess.PIPE,
        ) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"running\n"
            threading.Event().wait(chance.uniform(0.0, 0.15))
            worker.kill()
        cache = open_cache(path, max_bytes=24 * MIB)
        assert cache.problems == []
        checked += check_everything(cache)
        on_disk = sum(file.stat().st_blocks * 512 for file in (path / "content").rglob("md5-*"))
        assert on_disk <= cache.usage().cached_bytes * 1.01 + CONTENTS * MIB
        cache.close()
    assert checked > 0


def test_a_failed_sync_forgets_what_it_was_for(
    path: Path, cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a failed sync may have lost counts as absent, though the next sync succeeds."""
    content = cache.content(key_of(1, CONTENT_BYTES))
    write(content, 0, 4)
    content.flush()
    write(content, 4, 8)

    def fail() -> None:
        raise CacheUnusable("the disk fails")

    monkeypatch.setattr(content._file, "sync", fail)
    with pytest.raises(CacheUnusable):
        content.flush()
    monkeypatch.undo()
    content.flush()
    assert present_blocks(content) == {0, 1, 2, 3}
    assert cache.usage().cached_bytes == 4 * 131072
    content.close()


@pytest.mark.parametrize("failing", ["index", "file"])
def test_all_that_is_forgotten_is_absent_though_the_disk_fails(
    cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """What a failed sync may have lost, and what is damaged: in several places, and no change of the disk succeeds."""
    content = cache.content(key_of(1, CONTENT_BYTES))
    write(content, 0, 5)
    content.flush()
    write(content, 8, 9)
    write(content, 12, 13)

    def fail(*_: object) -> None:
        raise CacheUnusable("the disk fails")

    monkeypatch.setattr(content._file, "sync", fail)
    if failing == "index":
        monkeypatch.setattr(cache.index, "save_content", fail)
    else:
        monkeypatch.setattr(content._file, "free", fail)
    with pytest.raises(CacheUnusable):
        content.flush()
    assert present_blocks(content) == {0, 1, 2, 3, 4}
    with pytest.raises(CacheUnusable):
        content.forget_blocks([1, 3])
    assert present_blocks(content) == {0, 2, 4}
    monkeypatch.undo()
    content.close()


def test_an_index_that_fails_is_tried_again(cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the index could not take is taken by the next flush, and read meanwhile."""
    content = cache.content(key_of(1, CONTENT_BYTES))
    write(content, 0, 4)

    def fail(*_: object) -> None:
        raise CacheUnusable("the index fails")

    monkeypatch.setattr(cache.index, "save_content", fail)
    with pytest.raises(CacheUnusable):
        content.flush()
    with pytest.raises(CacheUnusable):
        content.forget_blocks([1])
    monkeypatch.undo()
    assert content.check_block(0)
    assert content.has_changes
    content.flush()
    content.close()
    again = cache.content(key_of(1, CONTENT_BYTES))
    assert present_blocks(again) == {0, 2, 3}
    again.close()


def test_a_failed_write_leaves_nothing_behind(
    path: Path, cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails for good is not present and not counted; one that fits after eviction succeeds."""
    content = cache.content(key_of(1, CONTENT_BYTES))
    write_on_disk = content._file.write
    attempts: list[int] = []

    def full_once(data: memoryview, offset: int) -> None:
        attempts.append(offset)
        if len(attempts) == 1:
            write_on_disk(data[:1000], offset)
            raise CacheFull("the disk is full")
        write_on_disk(data, offset)

    def broken(data: memoryview, offset: int) -> None:
        raise CacheUnusable("the disk fails")

    monkeypatch.setattr(content._file, "write", full_once)
    write(content, 8, 16)
    monkeypatch.setattr(content._file, "write", broken)
    with pytest.raises(CacheUnusable):
        write(content, 16, 24)
    monkeypatch.undo()
    assert len(attempts) == 2
    assert present_blocks(content) == set(range(8, 16))
    assert cache.usage().cached_bytes == MIB
    assert all(content.check_block(block) for block in range(8, 16))
    content.close()
    assert content_file(path, content.name).stat().st_blocks * 512 == MIB


def test_a_block_written_during_a_sync_is_not_claimed_by_it(
    path: Path, cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was written before the sync began is in the index after it, forgotten blocks left out."""
    content = cache.content(key_of(1, CONTENT_BYTES))
    write(content, 0, 4)
    sync = content._file.sync

    def sync_with_company() -> None:
        write(content, 3, 6)
        content.forget_blocks([0])
        sync()

    monkeypatch.setattr(content._file, "sync", sync_with_company)
    assert content.flush() == 2
    monkeypatch.undo()
    claimed = cache.index.load_segments(content.name)
    assert claimed[0].present == (0b0110).to_bytes(8, "little")
    assert present_blocks(content) == {1, 2, 3, 4, 5}
    assert content.flush() == 3
    content.close()


@pytest.mark.parametrize("synced", ["sync", "sync_entry"], ids=["data", "file name"])
def test_the_index_claims_nothing_before_it_is_synced(
    cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch, synced: str
) -> None:
    """Block sums would find out what is not there; it must not come to that."""
    content = cache.content(key_of(1, CONTENT_BYTES))
    write(content, 0, 4)
    sync = getattr(content._file, synced)
    claimed: list[list[bytes]] = []

    def watched_sync() -> None:
        claimed.append([row.present for row in cache.index.load_segments(content.name)])
        sync()

    monkeypatch.setattr(content._file, synced, watched_sync)
    assert content.flush() == 4
    assert len(claimed) == 1
    assert not any(map(any, claimed[0]))
    assert cache.index.load_segments(content.name)[0].present == (0b1111).to_bytes(8, "little")
    content.close()


@pytest.mark.parametrize("evicted", [False, True], ids=["forgotten", "evicted"])
def test_space_is_given_back_once_the_index_does_not_claim_it(
    cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch, evicted: bool
) -> None:
    """Block sums would find out what is not there any more; it must not come to that."""
    content = cache.content(key_of(1, CONTENT_BYTES))
    write(content, 0, 4)
    content.flush()
    free = content._file.free
    claimed: list[list[bytes]] = []

    def watched_free(offset: int, length: int) -> None:
        claimed.append([row.present for row in cache.index.load_segments(content.name)])
        free(offset, length)

    monkeypatch.setattr(content._file, "free", watched_free)
    if evicted:
        content.evict([(0, 2)])
    else:
        content.forget_blocks([0, 1])
    assert claimed == [[(0b1100).to_bytes(8, "little")]]
    content.close()


def test_what_the_index_could_not_let_go_keeps_its_space(
    cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks that are forgotten once more are not claimed any more when their space is given back."""
    content = cache.content(key_of(1, CONTENT_BYTES))
    write(content, 0, 4)
    content.flush()

    def fail(*_: object) -> None:
        raise CacheUnusable("the index fails")

    with monkeypatch.context() as patch:
        patch.setattr(cache.index, "save_content", fail)
        with pytest.raises(CacheUnusable):
            content.forget_blocks([0, 1])
    free = content._file.free
    claimed: list[bytes] = []

    def watched_free(start: int, end: int) -> None:
        claimed.extend(row.present for row in cache.index.load_segments(content.name))
        free(start, end)

    monkeypatch.setattr(content._file, "free", watched_free)
    content.forget_blocks([0, 1])
    assert claimed == [(0b1100).to_bytes(8, "little")]
    content.close()


def test_close_survives_a_failing_disk(
    cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A content that cannot be made durable is closed all the same, and the log says what it means."""
    content = cache.content(key_of(1, CONTENT_BYTES))
    write_all(content)

    def fail() -> None:
        raise CacheUnusable("the disk fails")

    monkeypatch.setattr(content._file, "sync", fail)
    content.close()
    assert "has to be fetched again" in caplog.text
    assert cache.usage().cached_bytes == 0
    content = cache.content(key_of(1, CONTENT_BYTES))
    write(content, 0, 4)

    def fail_to_save(*_: object) -> None:
        raise CacheFull("the index has no space")

    with monkeypatch.context() as patch:
        patch.setattr(cache.index, "save_content", fail_to_save)
        content.close()
    again = cache.content(key_of(1, CONTENT_BYTES))
    assert again is not content
    assert not present_blocks(again)
    again.close()


def test_a_content_opened_while_it_settles_stays_open(
    path: Path, cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens a content while its last user closes it has the same one, and loses nothing of it."""
    key = key_of(1, CONTENT_BYTES)
    content = cache.content(key)
    write(content, 0, 4)
    sync = content._file.sync
    opened = []

    def sync_while_opened() -> None:
        if not opened:
            opened.append(cache.content(key))
        sync()

    monkeypatch.setattr(content._file, "sync", sync_while_opened)
    content.close()
    assert opened == [content]
    write(content, 4, 8)
    content.close()
    again = cache.content(key)
    assert again is not content
    assert present_blocks(again) == set(range(8))
    again.close()


def test_descriptors_run_out(path: Path, cache: CacheDirectory) -> None:
    """Without file descriptors opening a content fails in the store's terms, leaks none, and works again later."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(os.listdir("/proc/self/fd"))
    for spare in range(4):
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + spare, before[1])
        )
        try:
            with contextlib.suppress(StoreError):
                cache.content(key_of(spare, MIB)).close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert len(os.listdir("/proc/self/fd")) == in_use
    cache.content(key_of(1, MIB)).close()
