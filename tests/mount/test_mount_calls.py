"""System calls on images and regions, as programs make them: each answers what fits what an image is."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import Final

import pytest
from mount_programs import attempt, eventually, run, text

LIBC: Final = ctypes.CDLL(None, use_errno=True)
AT_FDCWD: Final = -100
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
"""Of <linux/fs.h>."""

FICLONE: Final = 0x40049409
"""Of <linux/fs.h>: what ``cp --reflink`` asks for."""

CONTENT: Final = bytes(range(256)) * 5000


def renameat2(old, new, flags):
    """rename(2) with flags, which Python has not; raises OSError."""
    if LIBC.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def opening(flags):
    """open(2) of the image with *flags*."""
    return lambda toronto: os.open(toronto / "a", flags)


REFUSED: Final = {
    "rename onto an image": (errno.EEXIST, lambda toronto: os.rename(toronto / "a", toronto / "b")),
    "rename onto an image of another region": (
        errno.EEXIST,
        lambda toronto: os.rename(toronto / "a", toronto.parent / "montreal/other"),
    ),
    "NOREPLACE": (errno.EEXIST, lambda toronto: renameat2(toronto / "a", toronto / "b", RENAME_NOREPLACE)),
    "EXCHANGE": (errno.EPERM, lambda toronto: renameat2(toronto / "a", toronto / "b", RENAME_EXCHANGE)),
    "EXCHANGE of regions": (
        errno.EPERM,
        lambda toronto: renameat2(toronto, toronto.parent / "montreal", RENAME_EXCHANGE),
    ),
    "unknown flags of rename": (errno.EINVAL, lambda toronto: renameat2(toronto / "a", toronto / "c", 8)),
    "a name that is not UTF-8": (
        errno.EILSEQ,
        lambda toronto: os.rename(toronto / "a", os.fsencode(toronto) + b"/\xff"),
    ),
    "a name that is too long": (
        errno.ENAMETOOLONG,
        lambda toronto: os.rename(toronto / "a", toronto / ("x" * 256)),
    ),
    "link in the region": (errno.EPERM, lambda toronto: os.link(toronto / "a", toronto / "c")),
    "link onto an image": (
        errno.EEXIST,
        lambda toronto: os.link(toronto / "a", toronto.parent / "montreal/other"),
    ),
    "link of the control file": (
        errno.EPERM,
        lambda toronto: os.link(toronto / ".fetch", toronto.parent / "montreal/c"),
    ),
    "unlink of a region": (errno.EISDIR, os.unlink),
    "rmdir of an image": (errno.ENOTDIR, lambda toronto: os.rmdir(toronto / "a")),
    "truncate": (errno.EROFS, lambda toronto: os.truncate(toronto / "a", 0)),
    "truncate to its size": (errno.EROFS, lambda toronto: os.truncate(toronto / "a", len(CONTENT))),
    "truncate of a region": (errno.EISDIR, lambda toronto: os.truncate(toronto, 0)),
    "O_TRUNC": (errno.EEXIST, opening(os.O_WRONLY | os.O_TRUNC)),
    "O_TRUNC for reading": (errno.EEXIST, opening(os.O_RDONLY | os.O_TRUNC)),
    "O_APPEND": (errno.EROFS, opening(os.O_WRONLY | os.O_APPEND)),
    "O_RDWR": (errno.EROFS, opening(os.O_RDWR)),
    "O_CREAT for writing": (errno.EROFS, opening(os.O_WRONLY | os.O_CREAT)),
    "O_EXCL": (errno.EEXIST, opening(os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
    "O_DIRECTORY": (errno.ENOTDIR, opening(os.O_DIRECTORY)),
    "O_TMPFILE": (errno.EOPNOTSUPP, lambda toronto: os.open(toronto, os.O_TMPFILE | os.O_RDWR)),
    "a region for writing": (errno.EISDIR, lambda toronto: os.open(toronto, os.O_WRONLY)),
}
"""What cannot be done with the image ``a`` or its region, and what that answers."""


@pytest.fixture
def toronto(service, mount):
    """A region's directory with two images; another region has one more."""
    for name, region in (("a", "toronto"), ("b", "toronto"), ("other", "montreal")):
        service.add_image(name, region, CONTENT)
    return mount() / "toronto"


def test_what_cannot_be_done_says_so_and_changes_nothing(service, toronto):
    """Each call fails with its own errno; the service is asked for no change."""
    for title, (number, call) in REFUSED.items():
        with pytest.raises(OSError) as caught:
            call(toronto)
        assert caught.value.errno == number, title
    assert sorted(os.listdir(toronto)) == [".fetch", "a", "b"]
    assert {call.action for call in service.ledger.calls} <= {"list", "details"}


@pytest.mark.root
def test_a_rename_with_a_whiteout_is_refused(toronto):
    """Overlay file systems ask for it, and must hear that it cannot be had."""
    with pytest.raises(OSError) as caught:
        renameat2(toronto / "a", toronto / "c", RENAME_WHITEOUT)
    assert caught.value.errno == errno.EINVAL
    assert sorted(os.listdir(toronto)) == [".fetch", "a", "b"]


def test_what_does_nothing_succeeds(service, toronto):
    """A rename to the name that it has, by either of its names, and what only looks."""
    image_id = text("getfattr", "--only-values", "--absolute-names", "-n", "user.imagefs.id", toronto / "a")
    os.rename(toronto / "a", toronto / "a")
    os.rename(toronto / f"a~{image_id}", toronto / "a")
    attempt("mv", "-n", toronto / "a", toronto / "b")  # some releases call that a failure
    os.close(os.open(toronto / "a", os.O_RDONLY | os.O_CREAT))
    os.close(os.open(toronto / "a", os.O_PATH))
    for path in (toronto, toronto.parent):
        os.chmod(path, 0o700)
        os.utime(path, (1, 1))
    assert sorted(os.listdir(toronto)) == [".fetch", "a", "b"]
    assert {call.action for call in service.ledger.calls} <= {"list", "details"}


def test_an_image_has_no_holes_and_an_end(toronto):
    """Reads at and past the end, SEEK_DATA and SEEK_HOLE, as on a file without holes."""
    size = len(CONTENT)
    with (toronto / "a").open("rb", buffering=0) as image:
        file = image.fileno()
        assert os.pread(file, 10, size - 3) == CONTENT[-3:]
        assert [os.pread(file, 10, offset) for offset in (size, size + 4096, 1 << 62)] == [b""] * 3
        assert os.lseek(file, 7, os.SEEK_DATA) == 7
        assert os.lseek(file, 7, os.SEEK_HOLE) == size
        with pytest.raises(OSError) as caught:
            os.lseek(file, size, os.SEEK_DATA)
        assert caught.value.errno == errno.ENXIO
        os.fsync(file)
        with pytest.raises(OSError) as caught:
            os.posix_fallocate(file, 0, 10)
        assert caught.value.errno == errno.EBADF  # it is open for reading


PAST_THE_END: Final = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
file = os.open(sys.argv[1], os.O_RDONLY)
pages = -(-os.fstat(file).st_size // 4096)
start = libc.mmap(None, (pages + 1) * 4096, 1, 2, file, ctypes.c_long(0))
sys.stdout.buffer.write(ctypes.string_at(start, pages * 4096))
sys.stdout.flush()
ctypes.string_at(start + pages * 4096, 1)
"""


def test_a_mapped_image_ends_in_zeros_and_a_bus_error(toronto):
    """The rest of its last page is zero, and there is no page after that (mmap(2))."""
    done = attempt("python3", "-c", PAST_THE_END, toronto / "a")
    assert done.stdout == CONTENT.ljust(-(-len(CONTENT) // 4096) * 4096, b"\0")
    assert done.returncode == -7  # SIGBUS


def test_locks_hold_on_this_machine(toronto):
    """flock(2) and fcntl(2) keep two programs apart."""
    with (toronto / "a").open("rb") as first, (toronto / "a").open("rb") as second:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(first, fcntl.LOCK_UN)
        fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(first, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_a_clone_is_refused_and_leaves_nothing(service, toronto):
    """``cp --reflink=always`` fails, as no file system could do that here; its empty file goes."""
    montreal = toronto.parent / "montreal"
    done = attempt("cp", "--reflink=always", toronto / "a", montreal / "c")
    assert done.returncode == 1
    with (toronto / "a").open("rb") as source, (montreal / "d").open("wb") as target:
        with pytest.raises(OSError) as caught:
            fcntl.ioctl(target, FICLONE, source.fileno())
        assert caught.value.errno == errno.EOPNOTSUPP
    eventually(lambda: os.listdir(montreal) == [".fetch", "other"])
    assert {call.action for call in service.ledger.calls} <= {"list", "details"}


def test_a_directory_that_is_read_again_is_listed_anew(toronto):
    """rewinddir(3): whoever keeps a directory open sees what has come and gone. Those listed late are there."""
    directory = os.open(toronto, os.O_RDONLY)
    try:
        assert os.listdir(directory) == [".fetch", "a", "b"]
        with (toronto / "new").open("wb"):
            os.rename(toronto / "a", toronto / "c")
            assert os.listdir(directory) == [".fetch", "c", "b", "new"]
    finally:
        os.close(directory)


def test_a_new_name_is_decoded(service, toronto):
    """Whatever makes a name: its escapes are those of the image's name; one that looks like an id is meant as it is."""
    montreal = toronto.parent / "montreal"
    os.rename(toronto / "a", toronto / "x%2Fy")
    run("cp", toronto / "x%2Fy", montreal / "100%25~12.iso")
    run("sync", montreal / "100%25~12.iso")
    assert {image.name for image in service.images()} == {"x/y", "b", "other", "100%~12.iso"}
    assert sorted(os.listdir(montreal)) == [".fetch", "100%%7E12.iso", "other"]
    longest = "z" * 255
    os.rename(toronto / "b", toronto / longest)
    assert longest in {image.name for image in service.images()}
    assert (toronto / longest).read_bytes() == CONTENT
