"""An image whose content changes or was wrong: no reader ever gets bytes of another content, or a short file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from mount_programs import attempt, eventually, run, started, text

from imagefs.emulator import Fault

MIB = 1 << 20
SIZE = 3 * MIB + 777

ANY_FAILURE = "cannot be fetched|^.* read: |The content of image|sends other bytes|is gone from the account"


@contextmanager
def opened(file: Path) -> Iterator[int]:
    """A descriptor, read around no cache but the kernel's."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def part(descriptor: int, offset: int) -> bytes | None:
    """A page from *offset* on; None where reading it failed."""
    try:
        return os.pread(descriptor, 4096, offset)
    except OSError:
        return None


def read_all(descriptor: int) -> None:
    """Read it page by page."""
    for offset in range(0, os.fstat(descriptor).st_size, 4096):
        os.pread(descriptor, 4096, offset)


def copy_all(descriptor: int, target: Path) -> None:
    """Copy it to a new file by copy_file_range(2), in as few requests as the kernel makes."""
    with target.open("xb", buffering=0) as copy:
        for offset in range(0, os.fstat(descriptor).st_size, SIZE):
            os.copy_file_range(descriptor, copy.fileno(), SIZE, offset, offset)


READ_BY_EVERY_MEANS: Final = """
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(file).st_size
mapped = mmap.mmap(file, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
sink = os.memfd_create("copy")
while os.sendfile(sink, file, os.lseek(sink, 0, os.SEEK_CUR), 1 << 20):
    pass
for found in (os.pread(sink, size + 1, 0), mapped[:], os.read(file, size + 1)):
    sys.stdout.buffer.write(found)
"""


def by_every_means(file: Path) -> bytes:
    """The file three times over: as sendfile(2), mmap(2) and read(2) give it."""
    return run("python3", "-c", READ_BY_EVERY_MEANS, file)


def test_wrong_bytes_are_never_completed_by_right_ones(service, mount):
    """Who holds bytes that turned out wrong gets no others, though another who opened the image has them."""
    image_id = service.add_synthetic("a", "toronto", SIZE)
    content = service.content(image_id).read_bytes()
    service.faults.add(Fault("corrupt_byte"))
    mounted = mount()
    mounted.may_log(ANY_FAILURE)
    file = mounted / "toronto/a"
    with opened(file) as early:
        assert os.pread(early, 4096, 0) != content[:4096]
        attempt("cat", file)
        eventually(lambda: attempt("cat", file).stdout == content)
        with opened(file) as late:
            assert by_every_means(file) == 3 * content
            assert None in [part(early, offset) for offset in range(0, SIZE, 4096)]
            assert os.fstat(early).st_ino == os.fstat(late).st_ino


def test_an_image_that_changes_while_it_is_open(service, mount):
    """Its old handle keeps its size and gets old bytes or an error; who opens it anew gets the new content."""
    old, new = os.urandom(SIZE), os.urandom(MIB + 5)
    image_id = service.add_image("a", "toronto", old)
    service.add_image("pending", "montreal", b"x", status="saving")  # the listing is asked for more often
    mounted = mount()
    mounted.may_log(ANY_FAILURE, "is not what it was")
    file = mounted / "toronto/a"

    def shown() -> str:
        return text("stat", "-c", "%a %s", file)

    with opened(file) as early:
        assert os.pread(early, 4096, 0) == old[:4096]
        number = os.fstat(early).st_ino
        service.change_content(image_id, new)
        service.set_status(image_id, "saving")
        eventually(lambda: shown().startswith("0 "))
        assert part(early, 2 * MIB) in (None, old[2 * MIB : 2 * MIB + 4096])

        service.set_status(image_id, "active")
        eventually(lambda: shown() == f"444 {len(new)}")
        with opened(file) as late:
            assert by_every_means(file) == 3 * new
            for offset in (0, MIB, 2 * MIB):
                assert part(early, offset) in (None, old[offset : offset + 4096])
            assert (os.fstat(early).st_size, os.fstat(late).st_size) == (len(old), len(new))
            assert os.fstat(late).st_ino == number
        with pytest.raises(OSError, match=r"not supported|Stale"):
            copy_all(early, mounted / "montreal/copy")
    assert run("cat", file) == new
    assert [image.name for image in service.images()] == ["a", "pending"]


@pytest.mark.parametrize("size_bytes", [SIZE, MIB + 5], ids=["same size", "smaller"])
def test_an_image_that_is_replaced_in_place(service, mount, size_bytes):
    """No listing shows it: its details are asked for again once its content is not what they say."""
    old, new = os.urandom(SIZE), os.urandom(size_bytes)
    image_id = service.add_image("a", "toronto", old)
    mounted = mount()
    mounted.may_log(ANY_FAILURE, "is not what it was")
    file = mounted / "toronto/a"
    with opened(file) as early:
        assert os.pread(early, 4096, 0) == old[:4096]
        service.change_content(image_id, new)
        with pytest.raises(OSError, match=r"Stale|Input"):
            read_all(early)
        eventually(lambda: attempt("cat", file).stdout == new)
        assert by_every_means(file) == 3 * new
        assert None in [part(early, offset) for offset in range(0, SIZE, 4096)]


def test_details_that_hang_hold_up_nobody(service, mount):
    """Other names of the region are found, and what concerns the image's name alone is done."""
    service.add_image("a", "toronto", b"abc")
    hanging = service.add_image("hanging", "toronto", b"abc")
    service.faults.add(Fault("never_answers", action="details", image_id=hanging, times=None))
    region = mount() / "toronto"
    with started("stat", region / "hanging") as waiting:
        eventually(lambda: service.faults.struck["never_answers"] > 0)
        assert run("cat", region / "a") == b"abc"
        os.rename(region / "hanging", region / "b")
        os.unlink(region / "b")
        assert text("ls", region) == "a"
        assert waiting.poll() is None


def test_a_name_that_another_image_has_by_now_leads_there_at_once(service, mount):
    """Though the kernel remembers it for a second more, and the image that had it was renamed by another name."""
    service.add_image("a", "montreal", b"moved")
    source = f"{service.root_url}content/{service.add_image('source', 'roubaix', b'other')}"
    mounted = mount()
    region = mounted / "toronto"
    run("mv", mounted / "montreal/a", region / "a")
    run("sync", region / "a")
    assert run("cat", region / "a") == b"moved"
    (moved,) = (image.image_id for image in service.images() if image.region == "toronto")
    run("sh", "-c", f"echo {source} name=a format=iso > {region}/.fetch")
    run("mv", region / f"a~{moved}", region / "b")

    def is_the_other() -> bool:
        shown = attempt("cat", region / "a").stdout
        assert shown in (b"", b"other")
        return shown == b"other"

    eventually(is_the_other)
    assert run("cat", region / "b") == b"moved"
