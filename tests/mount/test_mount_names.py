"""Names of all kinds: each image is listed, can be looked at and read, and no path means two images."""

from __future__ import annotations

import os

import pytest
from mount_programs import run

HOSTILE = (
    "plain.iso",
    "Arch Linux 2017-02-23 64-bit (ISO)",
    "a/b",
    "../../etc/passwd",
    ".",
    "..",
    "",
    ".fetch",
    ".hidden",
    "-rf",
    "*",
    "new\nline",
    "tab\tand\rreturn",
    "\x1b[31mred\x1b[0m\x07",
    "nul\0inside",
    "del\x7f",
    "c1\x9bcontrol",
    "100%",
    "100%41",
    "%2F",
    "~",
    "b~12.iso",
    "ünïcode 日本語 🙂",
    "e\u0301 combining",
    "\u202eright to left",
    "lone \ud800 surrogate",
    "'quotes' \"double\" `back` $HOME \\",
    "x" * 255,
    "x" * 256,
    "y" * 300 + ".iso",
    "日" * 100,
    " leading and trailing ",
)


def _images_in(region):
    """The file names of a region's images."""
    return sorted(set(os.listdir(region)) - {".fetch"})


def _content(name: str) -> bytes:
    return b"content of " + name.encode("utf-8", "surrogatepass")


def test_every_name_can_be_listed_and_read(service, mount):
    """Whatever an image is called, one file with its content is listed, under one safe name."""
    expected = {service.add_image(name, "toronto", _content(name)): _content(name) for name in HOSTILE}
    mounted = mount()
    region = os.fsencode(mounted / "toronto")
    listed = run("find", mounted / "toronto", "-type", "f", "!", "-name", ".fetch", "-print0").split(b"\0")[
        :-1
    ]
    assert len(listed) == len(HOSTILE)
    assert all(
        path.startswith(region + b"/") and path.count(b"/") == region.count(b"/") + 1 for path in listed
    )
    found = {mounted.xattr(os.fsdecode(path), "id"): run("cat", os.fsdecode(path)) for path in listed}
    assert found == expected


def test_no_control_character_reaches_a_terminal(service, mount):
    """Neither a listing nor the log carries a control character or escape sequence of a name."""
    for name in HOSTILE:
        service.add_image(name, "toronto", b"x", status="killed")
    mounted = mount()
    mounted.may_log("has failed")
    shown = run("ls", "--show-control-chars", "-N", mounted / "toronto") + mounted.log_file.read_bytes()
    assert not [byte for byte in shown if (byte < 0x20 and byte != 0x0A) or byte == 0x7F]


def test_each_of_two_with_one_name_carries_its_id(service, mount):
    """Images of one region that share a name all show their ids, before the extension."""
    first = service.add_image("disk.qcow2", "toronto", b"first")
    second = service.add_image("disk.qcow2", "toronto", b"second")
    service.add_image("disk.qcow2", "montreal", b"third")
    mounted = mount()
    assert _images_in(mounted / "toronto") == sorted([f"disk~{first}.qcow2", f"disk~{second}.qcow2"])
    assert _images_in(mounted / "montreal") == ["disk.qcow2"]
    assert run("cat", mounted / "toronto" / f"disk~{first}.qcow2") == b"first"
    assert run("cat", mounted / "toronto" / f"disk~{second}.qcow2") == b"second"
    assert not (mounted / "toronto" / "disk.qcow2").exists()


@pytest.mark.parametrize("name", ["a", "a.iso", "a.b.img", "a/b.raw", "", "x" * 300])
def test_every_image_has_a_name_with_its_id(service, mount, name):
    """NAME~ID means the image at any time, though another name is listed."""
    image_id = service.add_image(name, "toronto", b"content")
    mounted = mount()
    (listed,) = _images_in(mounted / "toronto")
    stem, dot, extension = listed.rpartition(".")
    if extension not in ("iso", "img", "raw"):
        stem, dot, extension = listed, "", ""
    named = mounted / "toronto" / (listed if "~" in listed else f"{stem}~{image_id}{dot}{extension}")
    assert run("cat", named) == b"content"
    assert named.stat().st_ino == (mounted / "toronto" / listed).stat().st_ino


def test_a_name_with_the_id_of_another_region_means_nothing(service, mount):
    """An id is looked up in its own region only."""
    image_id = service.add_image("a", "toronto", b"content")
    assert not (mount() / "montreal" / f"a~{image_id}").exists()
