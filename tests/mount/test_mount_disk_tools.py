"""The programs that look into disk images: qemu-img, xorriso, 7z, file, and the kernel's loop devices."""

from __future__ import annotations

import json
import os

import pytest
from mount_programs import attempt, run, text

MIB = 1 << 20


@pytest.fixture
def files(tmp_path):
    """A folder with some files to put into images."""
    folder = tmp_path / "files"
    (folder / "boot").mkdir(parents=True)
    (folder / "readme.txt").write_text("an image for tests\n" * 100)
    (folder / "boot" / "kernel").write_bytes(os.urandom(300_000))
    return folder


@pytest.fixture
def iso(files, tmp_path):
    """An ISO 9660 image of these files."""
    image = tmp_path / "made.iso"
    run("xorriso", "-as", "mkisofs", "-quiet", "-V", "TESTDISC", "-r", "-J", "-o", image, files)
    return image


@pytest.fixture
def ext4(files, tmp_path):
    """An ext4 file system with these files."""
    image = tmp_path / "made.img"
    run("mkfs.ext4", "-q", "-d", files, image, "16M")
    return image


@pytest.fixture
def qcow2(ext4, tmp_path):
    """The same as a compressed qcow2 image."""
    image = tmp_path / "made.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", ext4, image)
    return image


def test_file_tells_the_kinds(service, mount, iso, qcow2, ext4):
    """file recognises each image by its header."""
    for name, image in (("a.iso", iso), ("a.qcow2", qcow2), ("a.img", ext4)):
        service.add_image(name, "toronto", image)
    region = mount() / "toronto"
    assert "ISO 9660" in text("file", region / "a.iso")
    assert "QEMU QCOW" in text("file", region / "a.qcow2")
    assert "ext4 filesystem" in text("file", region / "a.img")


def test_qemu_img_reads_a_qcow2(service, mount, qcow2, ext4, tmp_path):
    """info, check, compare and convert work as on a local file."""
    service.add_image("a.qcow2", "toronto", qcow2, disk_format="qcow2")
    file = mount() / "toronto/a.qcow2"
    assert "virtual size: 16 MiB" in text("qemu-img", "info", file)
    assert "No errors were found" in text("qemu-img", "check", file)
    assert "Images are identical" in text("qemu-img", "compare", file, qcow2)
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", file, tmp_path / "converted.img")
    run("cmp", tmp_path / "converted.img", ext4)


def test_a_qcow2_can_back_another(service, mount, qcow2, ext4, tmp_path):
    """A local overlay on top of an image reads through to it."""
    service.add_image("a.qcow2", "toronto", qcow2, disk_format="qcow2")
    file = mount() / "toronto/a.qcow2"
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", file, "-F", "qcow2", overlay)
    assert "Images are identical" in text("qemu-img", "compare", "-f", "qcow2", "-F", "raw", overlay, ext4)


def test_xorriso_and_7z_open_an_iso(service, mount, iso, files, tmp_path):
    """The files of an ISO image can be listed, tested and taken out."""
    service.add_image("a.iso", "toronto", iso)
    file = mount() / "toronto/a.iso"
    listing = attempt("xorriso", "-indev", f"stdio:{file}", "-find", "/", "-type", "f")
    assert b"'/boot/kernel'" in listing.stdout
    run("xorriso", "-osirrox", "on", "-indev", f"stdio:{file}", "-extract", "/", tmp_path / "by xorriso")
    assert "Everything is Ok" in text("7z", "t", file)
    run("7z", "x", "-bd", f"-o{tmp_path / 'by 7z'}", file)
    for taken_out in ("by xorriso", "by 7z"):
        run("diff", "-r", files, tmp_path / taken_out)


def test_file_fetches_what_it_reads(service, mount, iso):
    """file(1) reads the first 7 MiB, newer releases the last 7 as well; as much again may be read ahead."""
    os.truncate(iso, 256 * MIB)
    service.add_image("a.iso", "toronto", iso)
    mounted = mount()
    assert "ISO 9660" in text("file", mounted / "toronto/a.iso")
    read_bytes = json.loads(mounted.xattr(mounted.path, "status"))["read"]
    mounted.umount()
    assert read_bytes <= 20 * MIB
    assert service.ledger.bytes_retrieved() <= 2 * read_bytes + MIB


@pytest.mark.root
@pytest.mark.loop_device
def test_a_loop_mount_shows_the_files(service, mount, ext4, files, tmp_path):
    """An image can be mounted itself, and its files are right."""
    service.add_image("a.img", "toronto", ext4)
    file = mount() / "toronto/a.img"
    inner = tmp_path / "inner"
    inner.mkdir()
    run("mount", "-o", "loop,ro", file, inner)
    try:
        run("diff", "-r", "--exclude", "lost+found", files, inner)
    finally:
        run("umount", inner)


@pytest.mark.root
@pytest.mark.loop_device
def test_a_loop_device_is_the_image(service, mount, iso):
    """A loop device has the image's size and bytes."""
    service.add_image("a.iso", "toronto", iso)
    file = mount() / "toronto/a.iso"
    device = text("losetup", "--find", "--show", "--read-only", file)
    try:
        run("cmp", device, iso)
    finally:
        run("losetup", "--detach", device)
