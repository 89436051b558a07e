"""Changes of the account by way of the tree: names that are made, changed, linked and removed."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable

import pytest
from vfs_fakes import Grove, image, play

from imagefs.core.inodes import image_inode, region_inode
from imagefs.core.models import ListedImage
from imagefs.errors import Exists, NotFound, NotPermitted, NotSupported, ReadOnly

TORONTO, MONTREAL = region_inode("toronto"), region_inode("montreal")
ROWS: tuple[ListedImage, ...] = (image("1", "a"), image("2", "b"), image("3", "m", "montreal"))


async def grown(**ownership: bool) -> Grove:
    """A tree whose regions the kernel knows."""
    grove = Grove(*ROWS, **ownership)
    for region in (b"toronto", b"montreal"):
        await grove.find(region)
    return grove


async def names(grove: Grove, region: int) -> list[bytes]:
    """What the region's directory lists, without the dots and the control file."""
    handle = await grove.tree.open_directory(region)
    return [entry.name for entry in (await grove.tree.entries(handle, anew=True))[3:]]


def test_a_copy_is_one_of_what_was_opened() -> None:
    """An image that has other content since then is not replicated: its copy would have bytes that nobody opened."""

    async def scene() -> None:
        grove = await grown()
        opened, _ = await grove.tree.changes.create(MONTREAL, b"new")
        source = await grove.tree.open(await grove.find(b"toronto", b"a"), os.O_RDONLY)
        for row in ROWS:
            grove.account.change_details(row.image_id, checksum="0" * 32)
        with pytest.raises(NotSupported):
            await grove.files.copy_range(source.handle, 0, opened.handle, 0, 1000)
        assert grove.account.calls == []

    play(scene)


def test_of_two_images_with_one_content_the_one_that_is_read_is_copied() -> None:
    """The other one may be a template, which cannot be replicated."""

    async def scene() -> None:
        grove = await grown()
        opened, _ = await grove.tree.changes.create(MONTREAL, b"new")
        source = await grove.tree.open(await grove.find(b"toronto", b"b"), os.O_RDONLY)
        await grove.files.copy_range(source.handle, 0, opened.handle, 0, 1000)
        assert grove.account.calls == [("replicate", "2", "montreal", "new")]

    play(scene)


def test_a_created_file_is_its_image_from_then_on() -> None:
    """Under its name, its inode and its open handle; the kernel's count of it is that of the creation."""

    async def scene() -> None:
        grove = await grown()
        opened, attributes = await grove.tree.changes.create(MONTREAL, b"new%20one")
        assert opened.direct
        assert await names(grove, MONTREAL) == [b"m", b"new%20one"]
        assert await grove.find(b"montreal", b"new%20one") == attributes.inode
        source = await grove.tree.open(await grove.find(b"toronto", b"a"), os.O_RDONLY)
        assert await grove.files.copy_range(source.handle, 0, opened.handle, 0, 1000) == 1000
        assert grove.account.calls == [("replicate", "1", "montreal", "new one")]
        replica = await grove.find(b"montreal", b"new%20one")
        assert (await grove.tree.attributes(attributes.inode)).inode == replica
        assert await names(grove, MONTREAL) == [b"m", b"new one"]
        await grove.files.release(opened.handle)
        grove.tree.forget(attributes.inode, 2)
        with pytest.raises(NotFound):
            await grove.tree.attributes(attributes.inode)
        assert grove.drafts.get(attributes.inode) is None
        assert (await grove.tree.attributes(replica)).inode == replica

    play(scene)


def test_a_name_is_listed_once() -> None:
    """Where others make an image of a draft's name, the image is what is there."""

    async def scene() -> None:
        grove = await grown()
        await grove.tree.changes.create(MONTREAL, b"new")
        grove.account.list_anew(*ROWS, image("9", "new", "montreal"))
        assert await names(grove, MONTREAL) == [b"m", b"new"]
        assert await grove.find(b"montreal", b"new") == image_inode("9")

    play(scene)


def test_a_reader_of_a_draft_decides_nothing() -> None:
    """Only who can write to it says by closing that it is complete."""

    async def scene() -> None:
        grove = await grown()
        writer, attributes = await grove.tree.changes.create(MONTREAL, b"new")
        await grove.files.write(writer.handle, 0, b"half")
        reader = await grove.tree.open(attributes.inode, os.O_RDONLY)
        assert await grove.files.read(reader.handle, 0, 10) == b"half"
        await grove.files.flush(reader.handle)
        await grove.files.sync(reader.handle)
        await grove.files.release(reader.handle)
        assert await grove.files.write(writer.handle, 4, b"more") == 4

    play(scene)


def test_renaming() -> None:
    """Within a region it is a rename, between two a move, and of a draft nobody else's business."""

    async def scene() -> None:
        grove = await grown()
        rename = grove.tree.changes.rename
        await rename(TORONTO, b"a", TORONTO, b"x%2Fy", exchange=False)
        await rename(TORONTO, b"x%2Fy", MONTREAL, b"moved", exchange=False)
        _, attributes = await grove.tree.changes.create(TORONTO, b"draft")
        await rename(TORONTO, b"draft", MONTREAL, b"other", exchange=False)
        assert await grove.find(b"montreal", b"other") == attributes.inode
        assert grove.account.calls == [("rename", "1", "x/y"), ("move", "1", "montreal", "moved")]
        assert await names(grove, TORONTO) == [b"b"]
        assert await names(grove, MONTREAL) == [b"m", b"moved", b"other"]
        await rename(MONTREAL, b"m", MONTREAL, b"other", exchange=False)
        assert grove.account.calls[2:] == [("rename", "3", "other")]

    play(scene)


def test_what_is_moved_is_its_replica_for_who_knows_it() -> None:
    """The kernel goes on with the inode that it has under the new name, until it looks that up."""

    async def scene() -> None:
        grove = await grown()
        inode = await grove.find(b"toronto", b"a")
        await grove.tree.changes.rename(TORONTO, b"a", MONTREAL, b"moved", exchange=False)
        replica = await grove.tree.lookup(MONTREAL, b"moved")
        assert (grove.library.gone, grove.library.replicas) == ([], {})
        grove.account.tell_moved("1", "11")
        assert grove.library.replicas == {"1": "11"}
        known = await grove.tree.attributes(inode)
        assert (known.mode, known.size_bytes) == (replica.mode, replica.size_bytes) == (stat.S_IFREG, 1000)
        grove.tree.forget(inode, 1)
        with pytest.raises(NotFound):
            await grove.tree.attributes(inode)

    play(scene)


def test_removing() -> None:
    """An image is deleted; a draft goes without a word, and so do the bytes in it."""

    async def scene() -> None:
        grove = await grown()
        opened, _ = await grove.tree.changes.create(TORONTO, b"draft")
        await grove.tree.changes.unlink(TORONTO, b"draft")
        await grove.tree.changes.unlink(TORONTO, b"a")
        assert grove.account.calls == [("delete", "1")]
        assert await names(grove, TORONTO) == [b"b"]
        with pytest.raises(NotFound):
            await grove.files.write(opened.handle, 0, b"x")

    play(scene)


def test_a_link_into_another_region_is_a_replica() -> None:
    """It is looked up at once; within one region there is none."""

    async def scene() -> None:
        grove = await grown()
        inode = await grove.find(b"toronto", b"a")
        linked = await grove.tree.changes.link(inode, MONTREAL, b"copy")
        assert await grove.find(b"montreal", b"copy") == linked.inode != inode
        with pytest.raises(NotPermitted):
            await grove.tree.changes.link(inode, TORONTO, b"copy")
        with pytest.raises(Exists):
            await grove.tree.changes.link(inode, MONTREAL, b"m")
        assert grove.account.calls == [("replicate", "1", "montreal", "copy")]

    play(scene)


ATTEMPTS: tuple[tuple[Callable[[Grove], Awaitable[object]], type[Exception]], ...] = (
    (lambda grove: grove.tree.changes.create(1, b"x"), NotPermitted),
    (lambda grove: grove.tree.changes.create(TORONTO, b"a"), Exists),
    (lambda grove: grove.tree.changes.rename(TORONTO, b"a", TORONTO, b"b", exchange=False), Exists),
    (lambda grove: grove.tree.changes.rename(TORONTO, b"a", MONTREAL, b"m", exchange=False), Exists),
    (lambda grove: grove.tree.changes.rename(TORONTO, b"a", TORONTO, b"b", exchange=True), NotPermitted),
    (lambda grove: grove.tree.changes.rename(TORONTO, b"a", 1, b"a", exchange=False), NotPermitted),
    (lambda grove: grove.tree.changes.rename(1, b"toronto", 1, b"x", exchange=False), NotPermitted),
    (lambda grove: grove.tree.changes.rename(TORONTO, b"none", TORONTO, b"x", exchange=False), NotFound),
    (lambda grove: grove.tree.changes.unlink(TORONTO, b"none"), NotFound),
    (lambda grove: grove.tree.changes.unlink(1, b"toronto"), NotPermitted),
)


@pytest.mark.parametrize(("attempt", "error"), ATTEMPTS)
@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_refused_asks_nobody(
    attempt: Callable[[Grove], Awaitable[object]], error: type[Exception], read_only: bool
) -> None:
    """Each has its error, and all of them that of a read-only mount."""

    async def scene() -> None:
        grove = await grown(read_only=read_only)
        with pytest.raises(ReadOnly if read_only else error):
            await attempt(grove)
        assert grove.account.calls == []
        assert await names(grove, TORONTO) == [b"a", b"b"]

    play(scene)
