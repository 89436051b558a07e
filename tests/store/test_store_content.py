"""One content: writing, reading, checking, forgetting, and what survives a restart."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_cases import MIB, block_bytes, content_file, key_of, open_cache, present_blocks, write, write_all

from imagefs.core.models import LARGEST_IMAGE_BYTES, ContentKey
from imagefs.errors import CacheFull, CacheUnusable
from imagefs.store.blocks import BLOCK_BYTES, block_count, block_sum
from imagefs.store.content_file import StoredContent
from imagefs.store.directory import CacheDirectory


def read_now(content: StoredContent, offset: int, length: int) -> bytearray | None:
    """*length* bytes at *offset* if the page cache has them."""
    buffer = bytearray(length)
    return buffer if content.read_now_into(offset, memoryview(buffer)) else None


def test_written_blocks_can_be_read(cache: CacheDirectory) -> None:
    """What was written comes back, at any offset, from the page cache too; the file stays sparse."""
    content = cache.content(key_of(1, 10 * MIB + 5))
    write(content, 2, 6)
    write(content, 80, 81)
    expected = b"".join(block_bytes(content.key, block) for block in range(2, 6))
    assert content.read(2 * BLOCK_BYTES + 7, 300_000) == expected[7:300_007]
    assert read_now(content, 2 * BLOCK_BYTES, 10) in (expected[:10], None)
    assert content.read(10 * MIB, 5) == block_bytes(content.key, 80)
    assert present_blocks(content) == {2, 3, 4, 5, 80}
    assert cache.cached_bytes(content.key) == 4 * BLOCK_BYTES + 5
    content.close()


def test_absent_blocks_are_never_read(cache: CacheDirectory) -> None:
    """A read that touches a hole fails rather than give zeros; one outside the content is a mistake."""
    content = cache.content(key_of(1, MIB))
    write(content, 0, 2)
    assert read_now(content, 0, 3 * BLOCK_BYTES) is None
    with pytest.raises(CacheUnusable, match="not in the cache"):
        content.read(2 * BLOCK_BYTES - 1, 2)
    with pytest.raises(ValueError, match="not within"):
        content.read(MIB - 1, 2)
    assert content.read(MIB, 0) == b""
    content.close()


@pytest.mark.parametrize(
    "stray", [b"", bytes(BLOCK_BYTES - 1), bytes(BLOCK_BYTES + 1), bytes(2 * BLOCK_BYTES)]
)
def test_only_whole_blocks_are_written(cache: CacheDirectory, stray: bytes) -> None:
    """Data that is not exactly the blocks that its sums are for is refused."""
    content = cache.content(key_of(1, MIB))
    with pytest.raises(ValueError, match="are not the blocks"):
        content.write_blocks(1, memoryview(stray), [block_sum(stray)])
    with pytest.raises(ValueError, match="are not the blocks"):
        content.write_blocks(8, memoryview(bytes(BLOCK_BYTES)), [bytes(8)])
    assert not present_blocks(content)
    content.close()


def test_unflushed_blocks_are_settled_by_the_last_close(path: Path, cache: CacheDirectory) -> None:
    """The same content is one object while open; its last close makes it durable."""
    key = key_of(1, 3 * MIB)
    content = cache.content(key)
    assert cache.content(key) is content
    write_all(content)
    content.close()
    assert content.check_block(5)
    content.close()
    cache.close()
    reopened = open_cache(path)
    again = reopened.content(key)
    assert again is not content
    assert present_blocks(again) == set(range(24))
    assert all(again.check_block(block) for block in range(24))
    reopened.close()


def test_what_is_written_while_the_last_close_settles_is_settled(path: Path, cache: CacheDirectory) -> None:
    """Somebody opens the content again just then, writes, and is the first to close it."""
    key = key_of(1, 3 * BLOCK_BYTES)
    content = cache.content(key)
    write(content, 0, 1)
    settle = content.settle

    def settle_slowly() -> bool:
        settled = settle()
        if present_blocks(content) == {0}:
            other = cache.content(key)
            write(other, 1, 3)
            other.close()
        return settled

    content.settle = settle_slowly  # type: ignore[method-assign]
    content.close()
    assert present_blocks(cache.content(key)) == {0, 1, 2}


def test_flush_counts_what_became_durable(cache: CacheDirectory) -> None:
    """Each block is counted by one flush, and a flush without writes does nothing."""
    content = cache.content(key_of(1, 20 * MIB))
    write(content, 0, 70)
    assert content.flush() == 70
    assert content.flush() == 0
    write(content, 69, 72)
    assert content.flush() == 3
    content.close()


def test_sums_outlive_their_blocks(path: Path, cache: CacheDirectory) -> None:
    """A forgotten block is absent and gives its space back; its sum is known still, after a restart too."""
    key = key_of(1, 9 * MIB)
    content = cache.content(key)
    write_all(content)
    content.mark_verified()
    before = content_file(path, content.name).stat().st_blocks
    content.forget_blocks([0, 1, 2, 70])
    assert content_file(path, content.name).stat().st_blocks == before - 4 * BLOCK_BYTES // 512
    cache.close()
    reopened = open_cache(path)
    again = reopened.content(key)
    assert again.verified
    assert present_blocks(again) == set(range(72)) - {0, 1, 2, 70}
    assert again.sum_of(70) == block_sum(block_bytes(key, 70))
    reopened.close()


def test_verified_content_takes_no_other_bytes(cache: CacheDirectory) -> None:
    """Once verified, a block with another sum is refused."""
    content = cache.content(key_of(1, MIB))
    with pytest.raises(ValueError, match="not every block sum"):
        content.mark_verified()
    write_all(content)
    content.mark_verified()
    other = bytes(BLOCK_BYTES)
    with pytest.raises(ValueError, match="differ from the verified"):
        content.write_blocks(3, memoryview(other), [block_sum(other)])
    write(content, 3, 4)
    content.close()


def test_drop_forgets_everything(path: Path, cache: CacheDirectory) -> None:
    """After a drop nothing is present or known, no space is taken, and closing removes the file."""
    content = cache.content(key_of(1, MIB))
    write_all(content)
    content.mark_verified()
    content.drop()
    assert not content.verified
    assert not present_blocks(content)
    assert content.sum_of(0) is None
    assert content_file(path, content.name).stat().st_blocks == 0
    assert cache.usage().cached_bytes == 0
    content.close()
    assert not content_file(path, content.name).exists()


def test_what_was_dropped_is_not_believed_though_the_index_keeps_it(
    path: Path, cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes were found wrong, and what the index still claims of them has no right sum any more."""
    key = key_of(1, 20 * MIB)
    content = cache.content(key)
    write_all(content)
    content.flush()

    def fail(*_: object) -> None:
        raise CacheUnusable("the index fails")

    with monkeypatch.context() as patch:
        patch.setattr(cache.index, "forget_content", fail)
        with pytest.raises(CacheUnusable):
            content.drop()
    assert not present_blocks(content)
    write(content, 0, 1)
    cache.close()
    reopened = open_cache(path)
    again = reopened.content(key)
    assert [block for block in present_blocks(again) if again.check_block(block)] == [0]
    reopened.close()


def test_damage_on_the_disk_is_found(path: Path, cache: CacheDirectory) -> None:
    """A flipped bit in the file makes exactly its block fail the check."""
    content = cache.content(key_of(1, MIB))
    write_all(content)
    content.flush()
    with content_file(path, content.name).open("r+b") as file:
        file.seek(3 * BLOCK_BYTES + 99)
        original = file.read(1)[0]
        file.seek(3 * BLOCK_BYTES + 99)
        file.write(bytes([original ^ 4]))
    assert [block for block in range(8) if not content.check_block(block)] == [3]
    content.close()


def test_empty_and_absurd_sizes(cache: CacheDirectory) -> None:
    """An empty content works; one too large for any cache is refused as such."""
    empty = cache.content(key_of(1, 0))
    empty.mark_verified()
    assert empty.verified
    assert empty.read(0, 0) == b""
    empty.drop()
    empty.close()
    for size_bytes in (LARGEST_IMAGE_BYTES + 1, 1 << 62, 10**30):
        with pytest.raises(CacheFull):
            cache.content(ContentKey(size_bytes, "0" * 32))


def test_threads_write_disjoint_blocks(cache: CacheDirectory) -> None:
    """Many threads writing, flushing and forgetting at once leave every present block right."""
    content = cache.content(key_of(1, 32 * MIB))
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for first in range(worker * 4, 256, 32):
                write(content, first, first + 4)
                if first % 3 == 0:
                    content.flush()
                if first % 5 == 0:
                    content.forget_blocks([first + 1])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert present_blocks(content) == set(range(256)) - {
        first + 1 for first in range(0, 256, 4) if first % 5 == 0
    }
    assert all(content.check_block(block) for block in present_blocks(content))
    assert cache.usage().cached_bytes == len(present_blocks(content)) * BLOCK_BYTES
    content.close()


def test_what_is_evicted_during_a_read_is_not_given(
    cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place in the file reads as zeros by then."""
    content = cache.content(key_of(1, 4 * BLOCK_BYTES))
    write(content, 0, 4)
    read_into, read_now_into = content._file.read_into, content._file.read_now_into

    def evicted_before(offset: int, buffer: memoryview) -> int:
        content.forget_blocks([offset // BLOCK_BYTES])
        return read_into(offset, buffer)

    def evicted_before_now(offset: int, buffer: memoryview) -> bool:
        content.forget_blocks([offset // BLOCK_BYTES])
        return read_now_into(offset, buffer)

    monkeypatch.setattr(content._file, "read_into", evicted_before)
    monkeypatch.setattr(content._file, "read_now_into", evicted_before_now)
    with pytest.raises(CacheUnusable):
        content.read(0, 100)
    assert not content.read_now_into(BLOCK_BYTES, memoryview(bytearray(100)))
    content.close()


def test_readers_never_see_a_hole(cache: CacheDirectory) -> None:
    """While a block is forgotten and written again and again, a reader gets its bytes or a refusal."""
    content = cache.content(key_of(1, MIB))
    write_all(content)
    expected = block_bytes(content.key, 4)
    done = threading.Event()
    wrong: list[bytearray] = []

    def read() -> None:
        while not done.is_set():
            for found in (attempt(), read_now(content, 4 * BLOCK_BYTES, BLOCK_BYTES)):
                if found is not None and found != expected:
                    wrong.append(found)

    def attempt() -> bytearray | None:
        try:
            return content.read(4 * BLOCK_BYTES, BLOCK_BYTES)
        except CacheUnusable:
            return None

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(60):
        content.forget_blocks([4])
        write(content, 4, 5)
    done.set()
    reader.join()
    assert not wrong
    content.close()


operations = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "flush", "forget", "reopen", "verify", "drop"]),
        st.integers(0, 71),
        st.integers(1, 20),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations)
def test_any_history_matches_a_plain_model(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[str, int, int]]
) -> None:
    """After any operations and restarts, the blocks and sums are those of a set and a dictionary."""
    path = tmp_path_factory.mktemp("history")
    key = key_of(1, 9 * MIB - 3)
    cache = open_cache(path)
    content = cache.content(key)
    model_present: set[int] = set()
    model_known: set[int] = set()
    verified = False
    for operation, first, length in history:
        touched = range(first, min(first + length, block_count(key.size_bytes)))
        if operation == "write":
            write(content, touched.start, touched.stop)
            model_present |= set(touched)
            model_known |= set(touched)
        elif operation == "flush":
            content.flush()
        elif operation == "forget":
            content.forget_blocks(touched)
            model_present -= set(touched)
        elif operation == "reopen":
            cache.close()
            cache = open_cache(path)
            content = cache.content(key)
        elif operation == "verify" and len(model_known) == block_count(key.size_bytes):
            content.mark_verified()
            verified = True
        elif operation == "drop":
            content.drop()
            model_present, model_known, verified = set(), set(), False
        assert present_blocks(content) == model_present
        assert {block for block in range(72) if content.sum_of(block)} == model_known
        assert content.verified == verified
        assert cache.cached_bytes(key) == sum(len(block_bytes(key, block)) for block in model_present)
    assert all(content.check_block(block) for block in model_present)
    cache.close()


def test_a_late_look_at_a_closed_content_costs_it_nothing(cache: CacheDirectory) -> None:
    """A thread that was left behind finds that it cannot read, and takes that for damage."""
    content = cache.content(key_of(1, 4 * MIB))
    write(content, 0, 4)
    content.close()
    with pytest.raises(CacheUnusable):
        content.check_block(0)
    with pytest.raises(CacheUnusable):
        content.forget_blocks(range(4))
    again = cache.content(key_of(1, 4 * MIB))
    assert present_blocks(again) == {0, 1, 2, 3}
    again.close()


def test_a_closing_content_is_closed_for_all_before_its_descriptor_goes(cache: CacheDirectory) -> None:
    """A late look would else read the next file that gets its number."""
    content = cache.content(key_of(1, MIB))
    write(content, 0, 4)
    seen: list[bool] = []
    content._file._descriptors.callback(lambda: seen.append(content._file.is_closed))
    content.close()
    assert seen == [True]


def test_a_file_that_cannot_be_closed_well(cache: CacheDirectory, caplog: pytest.LogCaptureFixture) -> None:
    """As close(2) tells of network disks: what was synced stays, and nobody is held up by it."""
    key = key_of(1, MIB)
    content = cache.content(key)
    write_all(content)

    def fail() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    content._file._descriptors.callback(fail)
    content.close()
    assert "closing the cache file" in caplog.text
    assert present_blocks(cache.content(key)) == set(range(8))
