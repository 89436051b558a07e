"""Opening, reading and losing files of the tree, their extended attributes, and refused changes."""

from __future__ import annotations

import os

import pytest
from vfs_fakes import MD5, Grove, image, play

from imagefs.core.models import ContentKey
from imagefs.errors import (
    ContentWrong,
    Exists,
    ImageFailed,
    ImagePending,
    ImageUnusable,
    IsDirectory,
    NoAttribute,
    NotDirectory,
    NotFound,
    NotPermitted,
    Outdated,
    ReadOnly,
    Unreachable,
    Unwelcome,
)

ROWS = (
    image("1", "debian.iso"),
    image("2", "twin"),
    image("3", "twin"),
    image("4", "new", status="queued"),
    image("5", "broken", status="killed"),
    image("6", "a/b", region="montreal"),
)


@pytest.mark.parametrize(
    ("name", "flags", "error"),
    [
        (b"debian.iso", os.O_WRONLY, ReadOnly),
        (b"debian.iso", os.O_RDWR, ReadOnly),
        (b"debian.iso", os.O_WRONLY | os.O_APPEND, ReadOnly),
        (b"debian.iso", os.O_WRONLY | os.O_TRUNC, Exists),
        (b"debian.iso", os.O_RDONLY | os.O_TRUNC, Exists),
        (b"new", os.O_RDONLY, ImagePending),
        (b"broken", os.O_RDONLY, ImageFailed),
    ],
)
def test_what_cannot_be_opened(name: bytes, flags: int, error: type[Exception]) -> None:
    """Each way of opening that is not reading, and each image that is not ready, has its error."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        inode = await grove.find(b"toronto", name)
        with pytest.raises(error):
            await grove.tree.open(inode, flags)
        with pytest.raises(IsDirectory):
            await grove.tree.open(1, flags)
        assert grove.library.opened == []

    play(scene)


@pytest.mark.parametrize(
    "programs", [["baloo_file_extr", "systemd"], ["file", "sh", "baloo_file_extr", "systemd"]]
)
def test_indexers_are_kept_out(programs: list[str]) -> None:
    """They, and what they start, open no image. What is no image costs nothing, and others are not taken for them."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        image, control = [await grove.find(b"toronto", name) for name in (b"debian.iso", b".fetch")]
        with pytest.raises(Unwelcome, match="baloo_file_extr"):
            await grove.tree.open(image, os.O_RDONLY, programs)
        await grove.tree.open(control, os.O_RDONLY, programs)
        assert grove.library.opened == []
        await grove.tree.open(image, os.O_RDONLY, ["file", "baloo_file_ext", "bash"])
        assert len(grove.library.opened) == 1

    play(scene)


def test_an_image_without_size_cannot_be_opened() -> None:
    """Without a size there is nothing to hold the content against."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        inode = await grove.find(b"toronto", b"debian.iso")
        grove.account.change_details("1", size_bytes=None, problem="the size is 'NaN'")
        with pytest.raises(ImageUnusable, match="NaN"):
            await grove.tree.open(inode, os.O_RDONLY)
        assert "NaN" in (await grove.tree.xattr(inode, b"user.imagefs.error")).decode()

    play(scene)


def test_reading_and_releasing() -> None:
    """Bytes come from the library's reader, whose failure is noted at the image."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        tree = grove.tree
        opened = await tree.open(await grove.find(b"toronto", b"debian.iso"), os.O_RDONLY)
        assert await grove.files.read(opened.handle, 990, 100) == b"x" * 10
        assert grove.files.read_now(opened.handle, 0, memoryview(bytearray(10))) is None
        (reader,) = grove.library.opened
        assert reader.content.key == ContentKey(1000, MD5)
        reader.failure = ContentWrong("wrong twice")
        with pytest.raises(ContentWrong):
            await grove.files.read(opened.handle, 0, 10)
        assert grove.account.errors["1"] == "wrong twice"
        await grove.files.release(opened.handle)
        await grove.files.release(opened.handle)
        assert grove.library.closed == [reader]

    play(scene)


def test_an_image_that_goes_while_it_is_open() -> None:
    """Its handle goes on and has attributes without a link; its path does not, and opening is refused."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        tree = grove.tree
        inode = await grove.find(b"toronto", b"debian.iso")
        opened = await tree.open(inode, os.O_RDONLY)
        grove.account.list_anew(*ROWS[1:])
        assert grove.library.gone == ["1"]
        found = await tree.attributes(inode)
        assert (found.size_bytes, found.links, found.ttl_s) == (1000, 0, 0.0)
        assert await grove.files.read(opened.handle, 0, 5) == b"xxxxx"
        for outdated in (tree.open(inode, os.O_RDONLY), tree.xattr_names(inode)):
            with pytest.raises(Outdated):
                await outdated
        with pytest.raises(NotFound):
            await grove.find(b"toronto", b"debian.iso")
        await grove.files.release(opened.handle)
        with pytest.raises(Outdated):
            await tree.attributes(inode)

    play(scene)


def test_changed_content_is_fetched_no_more() -> None:
    """When details change the content, the old is cut off from its image."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        grove.account.change_details("1", size_bytes=5)
        assert grove.library.gone == ["1"]
        grove.account.change_details("1", time_created_ns=0)
        assert grove.library.gone == ["1"]

    play(scene)


def test_extended_attributes() -> None:
    """Ours cannot be faked by fields of the details, and locations with credentials do not show."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        tree = grove.tree
        inode = await grove.find(b"toronto", b"debian.iso")
        names = await tree.xattr_names(inode)
        assert {name: await tree.xattr(inode, name) for name in names} == {
            b"user.imagefs.id": b"1",
            b"user.imagefs.status": b"active",
            b"user.imagefs.checksum": MD5.encode(),
            b"user.imagefs.format": b"iso",
            b"user.imagefs.cached": b"77",
            b"user.imagefs.name": b"debian.iso",
            b"user.imagefs.disk_format": b"iso",
        }
        for name in (b"user.imagefs.error", b"security.selinux", b"user.other", b"user.imagefs."):
            with pytest.raises(NoAttribute):
                await tree.xattr(inode, name)
        assert await tree.xattr_names(await grove.find(b"toronto")) == []
        assert await tree.xattr(1, b"user.imagefs.pid") == str(os.getpid()).encode()

    play(scene)


def test_the_reason_can_be_read_while_the_service_is_away() -> None:
    """The last failure of an image shows even where its details cannot be had; the first told is kept."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        inode = await grove.find(b"toronto", b"debian.iso")
        grove.account.failures["1"] = Unreachable("no route")
        assert await grove.tree.xattr(inode, b"user.imagefs.error") == b"no route"
        grove.account.errors["1"] = "cut short"
        assert await grove.tree.xattr(inode, b"user.imagefs.error") == b"cut short"

    play(scene)


def test_the_structure_cannot_be_changed() -> None:
    """Directories and links are a matter of permission, or of how it was mounted; a file is no directory."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        inode = await grove.find(b"toronto", b"debian.iso")
        assert isinstance(grove.tree.changes.refusal_of_structure(1), NotPermitted)
        assert isinstance(Grove(*ROWS, read_only=True).tree.changes.refusal_of_structure(1), ReadOnly)
        with pytest.raises(NotDirectory):
            grove.tree.changes.refusal_of_structure(inode)

    play(scene)
