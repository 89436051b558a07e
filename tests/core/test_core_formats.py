"""The format of a content, told by real images and by headers made up."""

from __future__ import annotations

import struct
import subprocess
from io import BytesIO

import pycdlib
import pytest

from imagefs.core.formats import HEAD_BYTES, image_format
from imagefs.errors import NotSupported


def qcow2_head(folder, *options):
    """The beginning of a disk that qemu-img makes."""
    disk = folder / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, disk, "64M"], check=True)
    with disk.open("rb") as file:
        return file.read(HEAD_BYTES)


@pytest.mark.parametrize("version", ["0.10", "1.1"])
def test_a_qcow2_of_qemu_is_one(tmp_path, version):
    """Both versions of the format, whatever the name says."""
    assert image_format(qcow2_head(tmp_path, "-o", f"compat={version}"), "disk.iso") == "qcow2"


def test_a_qcow2_that_needs_another_file_is_refused(tmp_path):
    """The service does not have a backing file, nor an external data file."""
    raw = tmp_path / "base.raw"
    raw.write_bytes(bytes(1 << 20))
    with pytest.raises(NotSupported, match="needs another file"):
        image_format(qcow2_head(tmp_path, "-b", raw, "-F", "raw"), "disk")
    with pytest.raises(NotSupported, match="needs another file"):
        image_format(qcow2_head(tmp_path, "-o", f"data_file={tmp_path / 'external'}"), "disk")


def test_an_iso_is_one(tmp_path):
    """ISO 9660 as a library writes it, and UDF alone."""
    iso = pycdlib.PyCdlib()
    iso.new()
    written = BytesIO()
    iso.write_fp(written)
    iso.close()
    assert image_format(written.getvalue()[:HEAD_BYTES], "disk") == "iso"
    assert image_format(bytes(16 * 2048) + b"\0BEA01\1" + bytes(2041), "disk") == "iso"


@pytest.mark.parametrize(
    "head", [b"", b"text", bytes(HEAD_BYTES), b"QFI\xfb", b"QFI\xfb" + struct.pack(">I", 3)], ids=repr
)
def test_anything_else_is_refused_with_the_way_out(head):
    """Whatever its name says: the service would make an image of it that does not boot."""
    with pytest.raises(NotSupported, match=r"qemu-img convert|cut off"):
        image_format(head, "disk.qcow2")
