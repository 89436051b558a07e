"""The cache directory: whose it is, what is planted in it, what is left over in it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import MIB, content_file, key_of, make_room, open_cache, present_blocks, write, write_all

from imagefs.core.models import ContentKey
from imagefs.errors import CacheFull, CacheInUse, CacheUnusable, StoreError
from imagefs.store import files
from imagefs.store.blocks import BLOCK_BYTES
from imagefs.store.content_file import StoredContent
from imagefs.store.directory import CacheDirectory

HOLD = """
import sys
from pathlib import Path
from imagefs.store import CacheDirectory
CacheDirectory.open(Path(sys.argv[1]), owner="/mnt/one \\x1b[31m two", max_bytes=1, min_free_bytes=0)
print("held", flush=True)
sys.stdin.read()
"""


def modes(path: Path) -> set[str]:
    """The modes of everything in the cache, as found."""
    entries = [path, *path.rglob("*")]
    return {("d" if entry.is_dir() else "f") + oct(stat.S_IMODE(entry.lstat().st_mode)) for entry in entries}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_nothing_is_open_to_others(path: Path, umask: int) -> None:
    """Directories are 0700 and files 0600, whatever the umask."""
    path.parent.mkdir()
    before = os.umask(umask)
    try:
        cache = open_cache(path)
        content = cache.content(key_of(1, MIB))
        write_all(content)
        content.flush()
        assert modes(path) == {"d0o700", "f0o600"}
        cache.close()
    finally:
        os.umask(before)


def test_a_disk_that_changes_no_mode(
    path: Path, cache: CacheDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is full or fails: what is private is used, what is new is not, and no descriptor stays open."""
    content = cache.content(key_of(1, MIB))
    write_all(content)
    content.close()
    in_use = len(os.listdir("/proc/self/fd"))

    def fail(descriptor: int, mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fchmod", fail)
    content = cache.content(key_of(1, MIB))
    assert content.check_block(0)
    content.close()
    before = os.umask(0o277)
    try:
        with pytest.raises(CacheFull):
            cache.content(key_of(2, MIB))
    finally:
        os.umask(before)
    assert len(os.listdir("/proc/self/fd")) == in_use


def test_a_directory_open_to_others_is_closed(path: Path) -> None:
    """Our own directory loses the access that others had."""
    path.mkdir(parents=True, mode=0o755)
    path.chmod(0o777)
    open_cache(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_link_or_file_is_no_cache(tmp_path: Path) -> None:
    """A link in place of the directory is refused, as is a file; what it points to is left alone."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "file").write_text("mine")
    for name in ("link", "file", "file/below"):
        with pytest.raises(CacheUnusable):
            open_cache(tmp_path / name)
    assert not list(victim.iterdir())
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.root
def test_another_users_directory_is_refused(path: Path) -> None:
    """A directory that belongs to someone else is not used."""
    path.mkdir(parents=True)
    os.chown(path, 12345, 12345)
    with pytest.raises(CacheUnusable, match="another user"):
        open_cache(path)


def test_one_process_at_a_time(path: Path) -> None:
    """A second process is told who has the cache; a killed one has it no longer."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(
            CacheInUse, match=rf"in use by the mount at /mnt/one \\x1b\[31m two \(process {holder.pid}\)"
        ):
            open_cache(path)
        holder.kill()
        holder.wait()
    open_cache(path).close()


def test_a_deleted_lock_file_changes_nothing(path: Path) -> None:
    """Whoever holds the directory goes on holding it, though nobody can be told who that is."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        (path / "lock").unlink()
        for _ in range(2):
            with pytest.raises(CacheInUse, match="in use by another mount"):
                open_cache(path)
        holder.kill()
        holder.wait()
    open_cache(path).close()


def test_one_owner_within_a_process(path: Path, cache: CacheDirectory) -> None:
    """The same holds within one process, and closing lets go."""
    with pytest.raises(CacheInUse, match=str(os.getpid())):
        open_cache(path)
    cache.close()
    open_cache(path).close()


@pytest.mark.parametrize(
    "name", ["lock", "index", "index-wal", "index-shm", "index-journal", "journal", "content"]
)
@pytest.mark.parametrize("kind", ["link", "hard link", "dangling link"])
def test_planted_files_are_removed_and_victims_unchanged(path: Path, name: str, kind: str) -> None:
    """A link in the place of one of the cache's files goes; what it leads to is neither written nor removed."""
    open_cache(path).close()
    victim = path.parent / "victim"
    victim.write_text("precious")
    planted = path / name
    if planted.is_dir():
        planted.rmdir()
    planted.unlink(missing_ok=True)
    if kind == "hard link":
        planted.hardlink_to(victim)
    else:
        planted.symlink_to(victim if kind == "link" else path.parent / "nowhere")
    cache = open_cache(path)
    content = cache.content(key_of(1, MIB))
    write_all(content)
    cache.close()
    assert victim.read_text() == "precious"
    assert not (path.parent / "nowhere").exists()
    assert not planted.is_symlink()


@pytest.mark.parametrize("leads_to", ["victim", "nowhere"])
def test_a_link_that_is_planted_after_the_look_is_not_followed(
    path: Path, monkeypatch: pytest.MonkeyPatch, leads_to: str
) -> None:
    """Between looking at a name and opening it, somebody can put a link there: it goes as any other."""
    open_cache(path).close()
    victim = path.parent / "victim"
    victim.write_text("precious")
    look, to_plant = files.remove_if_planted, ["lock", "index", "journal"]

    def look_too_early(parent: int, name: str) -> bool:
        found = look(parent, name)
        if name in to_plant:
            to_plant.remove(name)
            (path / name).unlink()
            (path / name).symlink_to(path.parent / leads_to)
        return found

    monkeypatch.setattr(files, "remove_if_planted", look_too_early)
    open_cache(path).close()
    assert not to_plant
    assert victim.read_text() == "precious"
    assert not (path.parent / "nowhere").exists()
    assert not any(file.is_symlink() for file in path.iterdir())


@pytest.mark.parametrize("place", ["folder", "file", "hard link"])
@pytest.mark.parametrize("when", ["before opening", "while open"])
def test_planted_content_is_never_followed(path: Path, place: str, when: str) -> None:
    """A content's file or folder that is a link is replaced; its victim stays as it was."""
    key = key_of(1, MIB)
    cache = open_cache(path)
    content = cache.content(key)
    write_all(content)
    content.close()
    file = content_file(path, content.name)
    victim = path.parent / "victim"
    if when == "before opening":
        cache.close()
    if place == "folder":
        victim.mkdir()
        (victim / file.name).write_text("precious")
        file.unlink()
        file.parent.rmdir()
        file.parent.symlink_to(victim)
    else:
        victim.write_text("precious")
        file.unlink()
        if place == "file":
            file.symlink_to(victim)
        else:
            file.hardlink_to(victim)
    if when == "before opening":
        cache = open_cache(path)
    content = cache.content(key)
    assert not present_blocks(content)
    write_all(content)
    cache.close()
    assert (victim / file.name if place == "folder" else victim).read_text() == "precious"
    assert not file.parent.is_symlink()
    assert file.stat().st_size == MIB


def make_strange(place: Path, kind: str) -> None:
    """Put something that is no regular file at *place*."""
    if kind == "directory":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as unix, contextlib.chdir(place.parent):
            unix.bind(place.name)
    else:
        os.mknod(place, 0o600 | stat.S_IFCHR, os.makedev(5, 0))  # the terminal, which may hang


STRANGE = ["directory", "fifo", "socket", pytest.param("device", marks=pytest.mark.root)]


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("when", ["before opening", "while open"])
def test_strange_files_never_hang(path: Path, kind: str, when: str) -> None:
    """What is no regular file in a content's place is replaced without being used, but for a directory's."""
    key = key_of(1, MIB)
    cache = open_cache(path)
    cache.content(key_of(0x1000, MIB)).close()
    content = cache.content(key)
    write_all(content)
    content.close()
    file = content_file(path, content.name)
    if when == "before opening":
        cache.close()
    file.unlink()
    make_strange(file, kind)
    if when == "before opening":
        cache = open_cache(path)
    if kind == "directory":
        with pytest.raises(CacheUnusable):
            cache.content(key)
    else:
        content = cache.content(key)
        assert not present_blocks(content)
        write_all(content)
        assert file.is_file()
    cache.close()


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("name", ["lock", "index", "index-wal", "journal"])
def test_strange_files_of_the_caches_own_names(path: Path, kind: str, name: str) -> None:
    """They are replaced, but for a directory, which is refused."""
    open_cache(path).close()
    (path / name).unlink(missing_ok=True)
    make_strange(path / name, kind)
    if kind == "directory":
        with pytest.raises(CacheUnusable, match=name):
            open_cache(path)
    else:
        open_cache(path).close()
        assert not (path / name).exists() or (path / name).is_file()


def test_files_and_index_are_made_to_agree(path: Path) -> None:
    """What only one of index and disk has is removed from it; strange directories are reported and left alone."""
    cache = open_cache(path)
    for number in range(4):
        content = cache.content(key_of(number, MIB))
        write_all(content)
        content.close()
    cache.close()
    files = [content_file(path, f"md5-{number:032x}-{MIB}") for number in range(4)]
    files[0].unlink()
    os.truncate(files[1], MIB - 1)
    unknown = files[2].with_name(f"md5-{9:032x}-{MIB}")
    unknown.write_bytes(b"left by a crash")
    (path / "content" / "00" / "stray").write_bytes(b"x")
    (path / "content" / "strange").mkdir()
    cache = open_cache(path)
    assert [problem for problem in cache.problems if "strange" in problem]
    assert cache.usage().contents == 2
    assert sorted(entry for entry in (path / "content" / "00").iterdir()) == sorted(files[2:])
    assert cache.cached_bytes(key_of(0, MIB)) == 0
    assert (path / "content" / "strange").is_dir()
    cache.close()


def test_space_that_is_not_claimed_is_given_back(path: Path) -> None:
    """Blocks in a file that the index does not claim, as a crash leaves them, lose their space at the next start."""
    cache = open_cache(path)
    content = cache.content(key_of(1, 32 * MIB))
    write(content, 8, 16)
    content.close()
    cache.close()
    file = content_file(path, content.name)
    with file.open("r+b") as raw:
        raw.seek(20 * MIB)
        raw.write(b"x" * 8 * MIB)
    cache = open_cache(path)
    assert file.stat().st_blocks * 512 < 2 * MIB
    content = cache.content(key_of(1, 32 * MIB))
    assert all(content.check_block(block) for block in range(8, 16))
    cache.close()


def test_a_file_lost_while_idle_is_begun_anew(path: Path, cache: CacheDirectory) -> None:
    """A content whose file was removed behind the mount's back is empty, and not zeros."""
    content = cache.content(key_of(1, MIB))
    write_all(content)
    content.mark_verified()
    content.close()
    content_file(path, content.name).unlink()
    again = cache.content(key_of(1, MIB))
    assert not present_blocks(again)
    assert not again.verified
    assert cache.usage().cached_bytes == 0
    again.close()


def test_contents_without_checksum_are_told_apart_by_image(cache: CacheDirectory) -> None:
    """Images without a checksum have contents of their own, found again by their id."""
    first = cache.content(ContentKey(MIB, None, "1\udc80"))
    second = cache.content(ContentKey(MIB, None, "2"))
    write(first, 0, 1)
    assert not present_blocks(second)
    first.close()
    second.close()
    assert cache.cached_bytes(ContentKey(MIB, None, "1\udc80")) == BLOCK_BYTES
    assert make_room(cache, 256 * MIB) == BLOCK_BYTES


def test_names_that_the_file_system_cannot_sync(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some answer EINVAL for a directory (fsync(2)), and their names are as durable as they are; a failure is one."""
    error = errno.EINVAL
    sync = os.fsync

    def sync_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(error, os.strerror(error))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", sync_files)
    key = key_of(1, MIB)
    cache = open_cache(path)
    content = cache.content(key)
    write_all(content)
    assert content.flush() == 8
    cache.close()
    cache = open_cache(path)
    assert cache.cached_bytes(key) == MIB
    error = errno.EIO
    other = cache.content(key_of(2, MIB))
    write_all(other)
    with pytest.raises(CacheUnusable):
        other.flush()
    cache.close()


def test_a_removed_cache_is_gone_before_anybody_else_has_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes meanwhile is told that it is in use, and who comes later begins anew."""
    cache = open_cache(path)
    write_all(cache.content(key_of(1, MIB)))
    remove = shutil.rmtree

    def try_and_remove(*args: object, **options: object) -> None:
        with pytest.raises(CacheInUse):
            open_cache(path)
        remove(*args, **options)

    monkeypatch.setattr(shutil, "rmtree", try_and_remove)
    cache.remove(path)
    assert not path.exists()
    cache = open_cache(path)
    assert cache.usage().contents == 0
    cache.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], check=True)
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def write_until_full(content: StoredContent, end: int) -> int:
    """Write blocks from the first one on until the cache is full: how many were written."""
    for first in range(0, end, 4):
        try:
            write(content, first, first + 4)
        except CacheFull:
            return first
    raise AssertionError("the disk did not get full")


@pytest.mark.root
def test_a_full_disk_evicts_and_then_says_so(small_disk: Path) -> None:
    """On a full disk what is idle goes; with nothing to evict writing fails, and what is there stays right."""
    cache = open_cache(small_disk / "cache")
    idle = cache.content(key_of(1, 2 * MIB))
    write_all(idle)
    idle.close()
    content = cache.content(key_of(2, 16 * MIB))
    content.hot = (0, 64)
    written = write_until_full(content, 64)
    assert written >= 20
    assert cache.cached_bytes(idle.key) == 0
    assert present_blocks(content) == set(range(written))
    assert all(content.check_block(block) for block in range(written))
    content.hot = (0, 0)
    write(content, 124, 128)
    content.flush()
    cache.close()
    cache = open_cache(small_disk / "cache")
    content = cache.content(key_of(2, 16 * MIB))
    assert {124, 125, 126, 127} <= present_blocks(content)
    assert all(content.check_block(block) for block in present_blocks(content))
    cache.close()


@pytest.mark.root
def test_a_full_disk_is_no_cache(small_disk: Path) -> None:
    """Where there is no space even for the index, opening fails in the store's terms."""
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(8 * MIB))
    with pytest.raises(StoreError):
        open_cache(small_disk / "cache")
    filler.unlink()
    open_cache(small_disk / "cache").close()


@pytest.mark.root
def test_a_read_only_disk_is_no_cache(small_disk: Path) -> None:
    """On a read-only file system opening fails in the store's terms."""
    open_cache(small_disk / "cache").close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(CacheUnusable):
        open_cache(small_disk / "cache")
