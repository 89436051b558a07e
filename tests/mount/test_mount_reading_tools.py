"""The programs that people read with: each gets exactly the image's bytes.

A mapped page is never touched in this process: a page fault holds Python's lock, which the service needs to answer.
"""

from __future__ import annotations

import hashlib
import os
import sys

import pytest
from mount_programs import run, text

MIB = 1 << 20
SIZE = 5 * MIB + 12345

TO_STDOUT = {
    "cat": ["cat", "{file}"],
    "busybox cat": ["busybox", "cat", "{file}"],
    "dd": ["dd", "if={file}", "bs=64k", "status=none"],
    "dd with odd blocks": ["dd", "if={file}", "bs=4097", "status=none"],
    "dd O_DIRECT": ["dd", "if={file}", "bs=1M", "iflag=direct", "status=none"],
    "dd O_DIRECT small blocks": ["dd", "if={file}", "bs=512", "iflag=direct", "status=none"],
    "head of everything": ["head", "-c", str(2 * SIZE), "{file}"],
    "tail from the first byte": ["tail", "-c", "+1", "{file}"],
    "tar": ["sh", "-c", 'tar -c -C "$(dirname "$1")" a.img | tar -xO', "sh", "{file}"],
    "cpio": ["sh", "-c", 'cd "$(dirname "$1")" && tar --format=ustar -cf - a.img | busybox tar -xOf -', "sh", "{file}"],
    "curl": ["curl", "-sS", "file://{file}"],
    "mmap": [
        sys.executable, "-c",
        "import mmap, sys; f = open(sys.argv[1], 'rb')\n"
        "sys.stdout.buffer.write(mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ))", "{file}",
    ],
    "mmap, last page first": [
        sys.executable, "-c",
        "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\n"
        "m[-1]; m[len(m) // 2]; sys.stdout.buffer.write(m)", "{file}",
    ],
    "sendfile": [
        sys.executable, "-c",
        "import os, socket, sys, threading; f = open(sys.argv[1], 'rb'); a, b = socket.socketpair()\n"
        "threading.Thread(target=lambda: (a.sendfile(f), a.close())).start()\n"
        "[sys.stdout.buffer.write(part) for part in iter(lambda: b.recv(1 << 16), b'')]", "{file}",
    ],
}  # fmt: skip

TO_FILE = {
    "cp": ["cp", "{file}", "{target}"],
    "cp -a": ["cp", "-a", "{file}", "{target}"],
    "cp --sparse": ["cp", "--sparse=always", "{file}", "{target}"],
    "cp --reflink=never": ["cp", "--reflink=never", "{file}", "{target}"],
    "install": ["install", "-m", "600", "{file}", "{target}"],
    "rsync": ["rsync", "-a", "{file}", "{target}"],
    "rsync --inplace --checksum": ["rsync", "--inplace", "--checksum", "{file}", "{target}"],
    "rclone": ["rclone", "--config", "", "copyto", "{file}", "{target}"],
    "shutil": [sys.executable, "-c", "import shutil, sys; shutil.copy2(*sys.argv[1:])", "{file}", "{target}"],
    "qemu-img": ["qemu-img", "convert", "-f", "raw", "-O", "raw", "{file}", "{target}"],
}


@pytest.fixture
def image(service, mount):
    """An image of an odd size on a mount: its file, and its bytes."""
    image_id = service.add_synthetic("a.img", "toronto", SIZE)
    return mount() / "toronto" / "a.img", service.content(image_id).read_bytes()


def _filled(command, **places):
    return [word.format(**places) if "{" in word and "\n" not in word else word for word in command]


@pytest.mark.parametrize("command", TO_STDOUT.values(), ids=TO_STDOUT)
def test_a_program_reads_the_image(image, command):
    """What the program prints is the image, from a cold cache and from a warm one."""
    file, content = image
    assert run(*_filled(command, file=file)) == content
    assert run(*_filled(command, file=file)) == content


@pytest.mark.parametrize("command", TO_FILE.values(), ids=TO_FILE)
def test_a_program_copies_the_image(image, tmp_path, command):
    """What the program leaves on the local disk is the image."""
    file, content = image
    target = tmp_path / "copy"
    run(*_filled(command, file=file, target=target))
    size = -(-SIZE // 512) * 512 if command[0] == "qemu-img" else SIZE  # a disk ends with a sector
    assert target.read_bytes() == content.ljust(size, b"\0")


def test_checksums_and_comparisons_agree(image, tmp_path):
    """sha256sum, md5sum and cmp see the image's bytes."""
    file, content = image
    (tmp_path / "original").write_bytes(content)
    assert text("sha256sum", file).split()[0] == hashlib.sha256(content).hexdigest()
    assert text("md5sum", file).split()[0] == hashlib.md5(content).hexdigest()
    run("cmp", file, tmp_path / "original")


@pytest.mark.parametrize(
    ("skip", "count"), [(0, 1), (1, 1), (4096, 4096), (SIZE - 1, 1), (SIZE - 5000, 9999)]
)
def test_dd_reads_any_part(image, skip, count):
    """A part of the image is that part, the end included."""
    file, content = image
    part = run(
        "dd", f"if={file}", "iflag=skip_bytes,count_bytes", f"skip={skip}", f"count={count}", "status=none"
    )
    assert part == content[skip : skip + count]


def test_head_and_tail_read_their_ends(image):
    """head and tail need not know that the file is far away."""
    file, content = image
    assert run("head", "-c", "1000", file) == content[:1000]
    assert run("tail", "-c", "1000", file) == content[-1000:]
    assert run("tail", "-n", "3", file) == b"\n".join(content.split(b"\n")[-3:])[-len(content) :]


def test_many_descriptors_read_their_own_places(image):
    """Descriptors of one file do not disturb each other."""
    file, content = image
    with file.open("rb") as first, file.open("rb") as second:
        first.seek(SIZE // 2)
        assert second.read(100) == content[:100]
        assert first.read(100) == content[SIZE // 2 : SIZE // 2 + 100]
        buffers = [bytearray(10), bytearray(4000)]
        assert os.preadv(second.fileno(), buffers, 777) == 4010
        assert b"".join(buffers) == content[777:4787]
        assert os.pread(first.fileno(), 10, SIZE) == b""


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1])
def test_small_images_are_whole(service, mount, size):
    """Sizes around a page and a block have nothing missing and nothing added."""
    image_id = service.add_synthetic("a", "toronto", size)
    assert run("cat", mount() / "toronto/a") == service.content(image_id).read_bytes()


def test_a_header_costs_a_header(service, mount):
    """The first bytes of a large image take about a mebibyte from the service, not the image."""
    image_id = service.add_synthetic("a.iso", "toronto", 256 * MIB)
    mounted = mount()
    file = mounted / "toronto/a.iso"
    with service.content(image_id).open("rb") as content:
        assert run("head", "-c", "4096", file) == content.read(4096)
    text("qemu-img", "info", file)
    mounted.umount()
    assert service.ledger.bytes_retrieved() <= 2 * MIB
