"""The cache's disk is full, read-only, or fails at any call: reading goes on, slower."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mount_programs import attempt, eventually, refusal, run

MIB = 1 << 20
SIZE = 5 * MIB + 999

INJECTED = [
    ("pwrite64", "EIO"),
    ("pwrite64,fdatasync,fsync", "ENOSPC"),
    ("fdatasync,fsync", "EIO"),
    ("pread64,preadv,preadv2", "EIO"),
    ("ftruncate,fallocate,unlink,unlinkat,mkdirat", "EIO"),
]
"""System calls that fail from some moment on, index and journal included, and how."""


@pytest.fixture
def image_id(service):
    """An image of some mebibytes."""
    return service.add_synthetic("a", "toronto", SIZE)


@pytest.fixture
def content(service, image_id):
    """Its bytes."""
    return service.content(image_id).read_bytes()


@contextmanager
def small_disk(place: Path, *options: str) -> Iterator[Path]:
    """A disk of 4 MiB of its own."""
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", ",".join(("size=4m", *options)), "tmpfs", place)
    try:
        yield place
    finally:
        run("umount", "--lazy", place)


@contextmanager
def failing(mounted, calls: str, error: str, log: Path) -> Iterator[None]:
    """Every one of *calls* of the mount's process fails, until the block ends (strace(1), tampering)."""
    options = ("-f", "-o", str(log), "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}")
    with subprocess.Popen(("strace", *options, "-p", str(mounted.pid)), stderr=subprocess.PIPE) as strace:
        try:
            assert strace.stderr is not None
            assert b"attached" in strace.stderr.readline()
            yield
        finally:
            strace.terminate()
            strace.communicate()
    assert "(INJECTED)" in log.read_text()


@pytest.mark.root
@pytest.mark.parametrize(("calls", "error"), INJECTED, ids=[f"{calls} {error}" for calls, error in INJECTED])
def test_any_failing_call_is_got_over(service, mount, image_id, content, tmp_path, calls, error):
    """Reads of what is cached and of what is not are right while it lasts, after it, and after a crash."""
    cached = service.add_synthetic("cached", "toronto", MIB, seed=1)
    mounted = mount()
    mounted.may_log("cache")
    run("cat", mounted / "toronto/cached")
    mounted.drop_pages(mounted / "toronto/cached")
    with failing(mounted, calls, error, tmp_path / "calls"):
        assert run("cat", mounted / "toronto/a") == content
        assert run("cat", mounted / "toronto/cached") == service.content(cached).read_bytes()
        assert run("ls", mounted / "toronto") == b"a\ncached\n"
    mounted.drop_pages(mounted / "toronto/a")
    assert run("cat", mounted / "toronto/a") == content
    mounted.kill()
    mounted.mount()
    assert run("cat", mounted / "toronto/a") == content
    assert run("cat", mounted / "toronto/cached") == service.content(cached).read_bytes()


@pytest.mark.root
def test_a_journal_that_cannot_be_written_stops_the_change_alone(service, mount, image_id, content, tmp_path):
    """Nothing that must not be forgotten is begun; reading goes on, and the change works later."""
    mounted = mount()
    mounted.may_log("cache")
    with failing(mounted, "pwrite64,fdatasync", "EIO", tmp_path / "calls"):
        assert refusal("cp", mounted / "toronto/a", mounted / "montreal/a")
        assert run("cat", mounted / "toronto/a") == content
    assert service.ledger.count("replicate") == 0
    eventually(lambda: attempt("cp", mounted / "toronto/a", mounted / "montreal/a").returncode == 0)
    assert service.ledger.count("replicate") == 1


@pytest.mark.root
@pytest.mark.loop_device
def test_a_disk_that_turns_read_only(service, prepare, image_id, content, tmp_path):
    """As ext4 does by itself after an error: what is there is read, the rest comes without the cache."""
    service.add_synthetic("cached", "toronto", MIB, seed=1)
    disk, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    run("truncate", "-s", f"{64 * MIB}", disk)
    run("mkfs.ext4", "-q", disk)
    run("mount", "-o", "loop", disk, place)
    try:
        mounted = prepare(cache_dir=place / "cache")
        mounted.may_log("cache")
        mounted.mount()
        first = run("cat", mounted / "toronto/cached")
        run("mount", "-o", "remount,abort", place)
        assert refusal("touch", place / "file")
        assert run("cat", mounted / "toronto/a") == content
        mounted.drop_pages(mounted / "toronto/cached")
        assert run("cat", mounted / "toronto/cached") == first
        mounted.umount()
    finally:
        run("umount", "--lazy", place)


@pytest.mark.root
def test_what_is_written_does_not_fit(service, prepare, image_id, content, tmp_path):
    """A program that fills a file gets ENOSPC, and reading goes on."""
    with small_disk(tmp_path / "disk") as disk:
        mounted = prepare(cache_dir=disk / "cache")
        mounted.may_log("cache")
        mounted.mount()
        said = refusal("dd", f"if={mounted / 'toronto/a'}", f"of={mounted / 'montreal/b'}", "bs=1M")
        assert "No space left on device" in said
        assert run("cat", mounted / "toronto/a") == content
        mounted.umount()


@pytest.mark.root
@pytest.mark.parametrize("kind", ["read-only", "full", "no directory"])
def test_an_unusable_cache_is_told_at_the_start(prepare, image_id, tmp_path, kind):
    """In one line, and nothing is mounted."""
    with small_disk(tmp_path / "disk", *(["ro"] if kind == "read-only" else [])) as disk:
        if kind == "full":
            attempt("dd", "if=/dev/zero", f"of={disk / 'filler'}", "bs=64k")
        mounted = prepare(cache_dir=Path("/dev/null/cache") if kind == "no directory" else disk / "cache")
        mounted.may_log("cache")
        done = mounted.try_mount()
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1
        assert b"cache" in done.stderr
        assert not mounted.is_mounted
