"""The demo's images are real: other programs read them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pycdlib
import pytest

from imagefs.emulator import Emulator, demo_account


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator with the demo account."""
    emulator = Emulator(tmp_path_factory.mktemp("demo"))
    demo_account.build(emulator)
    yield emulator
    emulator.close()


def path_of(demo: Emulator, name: str) -> Path:
    """The true content of the first image of that name."""
    return demo.content(next(image.image_id for image in demo.images() if image.name == name))


def test_what_a_newcomer_should_see_is_there(demo: Emulator) -> None:
    """Three regions, one name twice, a replica, a pending image, a name that needs encoding, templates."""
    images = demo.images()
    assert {image.region for image in images} == {"toronto", "montreal", "roubaix"}
    arch = {image.image_id for image in images if image.name == "Arch Linux 2017-02-23 64-bit (ISO)"}
    assert arch == {"84473", "84476"}
    assert len({image.content for image in images if image.name == "rescue.iso"}) == 1
    assert [image.status for image in images].count("saving") == 1
    assert any("/" in image.name and not image.name.isascii() for image in images)
    assert any(image.public and int(image.image_id) < 10000 for image in images)


def test_it_is_built_once(demo: Emulator) -> None:
    """What a person removed does not come back."""
    image_id = demo.add_image("mine", "toronto", b"")
    before = [image for image in demo.images() if image.image_id != image_id]
    demo.remove_image(image_id)
    demo_account.build(demo)
    assert demo.images() == before


def test_an_interrupted_build_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there stays, what is missing is added."""
    monkeypatch.setattr(demo_account, "LARGE_BYTES", 1 << 20)
    emulator = Emulator(tmp_path)
    emulator.add_image("rescue.iso", "toronto", b"there first", image_id="141119")
    demo_account.build(emulator)
    assert emulator.content("141119").read_bytes() == b"there first"
    assert len(emulator.images()) == 11
    emulator.close()


def test_the_iso_boots_and_has_files(demo: Emulator) -> None:
    """El Torito, Joliet and Rock Ridge, read by pycdlib."""
    iso = pycdlib.PyCdlib()
    iso.open(str(path_of(demo, "rescue.iso")))
    assert iso.eltorito_boot_catalog is not None
    assert {child.file_identifier() for child in iso.list_children(joliet_path="/")} >= {
        name.encode("utf-16-be") for name in ("README.txt", "numbers.txt")
    }
    iso.close()


def test_the_qcow2_is_the_raw_disk(demo: Emulator) -> None:
    """qemu-img finds nothing wrong, and the same bytes in both."""
    raw, qcow2 = path_of(demo, "server.img"), path_of(demo, "server.qcow2")
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", qcow2], check=True, timeout=60)
    compare = ["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2"]
    subprocess.run([*compare, raw, qcow2], check=True, timeout=60)


def test_the_disk_has_a_partition_with_a_filesystem(demo: Emulator) -> None:
    """An MBR, and ext4's magic where its superblock is, or that of ISO 9660."""
    disk = path_of(demo, "server.img").read_bytes()
    assert disk[510:512] == b"\x55\xaa"
    start = int.from_bytes(disk[454:458], "little") * 512
    assert (
        disk[start + 1024 + 56 : start + 1024 + 58] == b"\x53\xef"
        or disk[start + 32769 : start + 32774] == b"CD001"
    )
