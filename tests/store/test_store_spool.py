"""Spools: bytes of unknown content, written in any order."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_cases import MIB, open_cache

from imagefs.errors import CacheFull, CacheUnusable
from imagefs.store.directory import CacheDirectory

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 300), st.binary(min_size=1, max_size=100)),
        st.tuples(st.just("truncate"), st.integers(0, 300), st.just(b"")),
        st.tuples(st.just("md5"), st.just(0), st.just(b"")),
    ),
    max_size=30,
)


def md5_of(content: bytes) -> str:
    """The MD5 of *content*, in lower-case hex."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@given(STEPS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_spool_holds_what_a_file_would(cache: CacheDirectory, steps: list[tuple[str, int, bytes]]) -> None:
    """Whatever is written over, cut off and asked in between: bytes, size, MD5 and how much was written agree."""
    spool = cache.spool()
    content, written = bytearray(), set[int]()
    for kind, number, data in steps:
        if kind == "write":
            spool.write(number, data)
            end = number + len(data)
            content = content.ljust(end, b"\0")
            content[number:end] = data
            written |= set(range(number, end))
        elif kind == "truncate":
            spool.truncate(number)
            content = content[:number].ljust(number, b"\0")
            written = {position for position in written if position < number}
        else:
            assert spool.md5() == md5_of(content)
        assert (spool.size_bytes, spool.written_bytes) == (len(content), len(written))
        assert cache.usage().cached_bytes == len(written)
    assert spool.read(0, 1000) == content
    assert spool.md5() == md5_of(content)
    spool.close()
    assert cache.usage().cached_bytes == 0


def test_a_spool_has_no_name(cache: CacheDirectory, path: Path) -> None:
    """So nothing of it is left behind by a crash."""
    before = {file.name for file in path.rglob("*")}
    spool = cache.spool()
    spool.write(0, b"x" * MIB)
    assert {file.name for file in path.rglob("*")} == before
    spool.close()


def test_without_unnamed_files_it_is_removed_at_once(
    cache: CacheDirectory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system cannot make a file without a name."""
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_WRONLY)  # EISDIR, as of older file systems
    before = {file.name for file in path.rglob("*")}
    spool = cache.spool()
    assert {file.name for file in path.rglob("*")} == before
    spool.write(5, b"abc")
    assert spool.read(0, 10) == bytes(5) + b"abc"
    spool.close()


def test_what_does_not_fit_is_not_written(path: Path) -> None:
    """A write past the cache's limit changes nothing, and the spool can be used on."""
    cache = open_cache(path, max_bytes=2 * MIB)
    spool = cache.spool()
    spool.write(0, b"a" * MIB)
    with pytest.raises(CacheFull):
        spool.write(MIB, b"b" * (MIB + 1))
    assert (spool.size_bytes, spool.written_bytes, cache.usage().cached_bytes) == (MIB, MIB, MIB)
    spool.write(MIB, b"b" * MIB)
    assert spool.md5() == md5_of(b"a" * MIB + b"b" * MIB)
    spool.close()
    cache.close()


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """No file of this process grows past *size_bytes* (setrlimit(2)): a write that reaches there is cut short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_md5_is_that_of_what_a_failed_write_has_left(cache: CacheDirectory) -> None:
    """A write that fails half-way has written over something: what is there then is no image any more."""
    spool = cache.spool()
    spool.write(0, b"a" * MIB)
    with files_of_at_most(MIB + 5), pytest.raises(CacheFull):
        spool.write(MIB // 2, b"b" * MIB)
    assert spool.size_bytes == MIB
    assert spool.md5() == md5_of(spool.read(0, MIB))
    spool.close()


def test_whoever_closes_a_spool_does_not_wait_for_its_md5(cache: CacheDirectory) -> None:
    """It is that of some GiB, and nobody wants it any more when the program that wrote them was interrupted."""
    spool = cache.spool()
    spool.truncate(4 << 30)  # a hole, which takes long to read nevertheless
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(spool.md5)
        spool.close()
        with pytest.raises(CacheUnusable):
            taking.result()


def test_two_spools_are_counted_apart(cache: CacheDirectory) -> None:
    """Closing one gives back its bytes only."""
    one, other = cache.spool(), cache.spool()
    one.write(0, b"x" * 10)
    other.write(100, b"y" * 20)
    one.close()
    assert cache.usage().cached_bytes == 20
    assert other.read(100, 20) == b"y" * 20
    other.close()


def test_who_reads_a_closed_spool_meets_no_other_file(cache: CacheDirectory, tmp_path: Path) -> None:
    """The next file to be opened gets the number of its descriptor."""
    (tmp_path / "other").write_bytes(b"not yours")
    spool = cache.spool()
    spool.write(0, b"mine")
    spool.close()
    with (tmp_path / "other").open("rb"), pytest.raises(CacheUnusable):
        spool.read(0, 4)


def test_a_spool_that_is_closing_is_closed_for_all(
    cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the disk tells of an error only now, which costs nothing that anybody needs."""
    spool = cache.spool()
    spool.write(0, b"mine")

    def fail(descriptor: int) -> None:
        with pytest.raises(CacheUnusable):
            spool.read(0, 4)
        close(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    close = os.close
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", fail)
        spool.close()
    assert cache.usage().cached_bytes == 0


def test_what_a_failed_write_has_left_behind_the_end_is_none_of_it(cache: CacheDirectory) -> None:
    """It is neither in the MD5, nor in the hole that a later write leaves there."""
    spool = cache.spool()
    spool.write(5, b"a" * 5)
    with files_of_at_most(15), pytest.raises(CacheFull):
        spool.write(10, b"b" * 10)
    assert spool.md5() == md5_of(bytes(5) + b"a" * 5)
    spool.write(20, b"c")
    assert spool.read(0, 100) == bytes(5) + b"a" * 5 + bytes(10) + b"c"
    spool.close()
