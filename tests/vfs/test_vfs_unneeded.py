"""Which inodes the kernel need not know any more."""

from __future__ import annotations

import os

from vfs_fakes import Grove, image, play

from imagefs.core.inodes import image_inode, region_inode

TORONTO = region_inode("toronto")
MONTREAL = region_inode("montreal")


async def grown() -> Grove:
    """A tree with two images in toronto, which the kernel has looked up beside montreal and its control file."""
    grove = Grove(image("1", "a"), image("2", "b"), image("3", "c", "montreal"))
    for name in (b"a", b"b"):
        await grove.find(b"toronto", name)
    await grove.find(b"montreal", b".fetch")
    return grove


def test_whatever_has_a_name_is_needed() -> None:
    """Directories, images, control files; a new file that nobody has filled yet."""

    async def scene() -> None:
        grove = await grown()
        assert grove.tree.unneeded() == []
        opened, _ = await grove.tree.changes.create(MONTREAL, b"new")
        assert grove.tree.unneeded() == []
        await grove.files.release(opened.handle)
        assert grove.tree.unneeded() == []

    play(scene)


def test_an_image_that_is_gone_is_needed_until_it_is_closed() -> None:
    """And only what is said of the one that is gone."""

    async def scene() -> None:
        grove = await grown()
        opened = await grove.tree.open(image_inode("1"), os.O_RDONLY)
        grove.account.list_anew(image("3", "c", "montreal"))
        assert grove.tree.unneeded() == [image_inode("2")]
        await grove.files.release(opened.handle)
        assert sorted(grove.tree.unneeded()) == [image_inode("1"), image_inode("2")]
        for inode in grove.tree.unneeded():
            grove.tree.forget(inode, 1)
        assert grove.tree.unneeded() == []

    play(scene)


def test_an_inode_that_no_name_leads_to_is_needed_until_it_is_closed() -> None:
    """The image has other content by now, which is another inode."""

    async def scene() -> None:
        grove = await grown()
        old = await grove.tree.open(image_inode("1"), os.O_RDONLY)
        grove.account.change_details("1", size_bytes=7)
        newer = await grove.find(b"toronto", b"a")
        assert newer != image_inode("1")
        assert grove.tree.unneeded() == []
        await grove.files.release(old.handle)
        assert grove.tree.unneeded() == [image_inode("1")]
        grove.tree.forget(image_inode("1"), 1)
        assert grove.tree.unneeded() == []
        await grove.tree.open(newer, os.O_RDONLY)

    play(scene)


def test_a_moved_image_is_not_needed_once_it_is_its_replica() -> None:
    """No name leads to it from then on, and whoever has its inode is led to the replica."""

    async def scene() -> None:
        grove = await grown()
        opened = await grove.tree.open(image_inode("2"), os.O_RDONLY)
        await grove.tree.changes.rename(TORONTO, b"b", MONTREAL, b"b", exchange=False)
        assert grove.tree.unneeded() == []
        await grove.files.release(opened.handle)
        assert grove.tree.unneeded() == [image_inode("2")]

    play(scene)


def test_a_file_that_is_an_image_by_now_is_needed_until_it_is_closed() -> None:
    """From then on its name leads to the image's own inode. One that was refused is as little needed."""

    async def scene() -> None:
        grove = await grown()
        source = await grove.tree.open(image_inode("1"), os.O_RDONLY)
        copy, settled = await grove.tree.changes.create(MONTREAL, b"new")
        await grove.files.copy_range(source.handle, 0, copy.handle, 0, 1000)
        assert grove.tree.unneeded() == []
        await grove.files.release(copy.handle)
        assert grove.tree.unneeded() == [settled.inode]

        other, refused = await grove.tree.changes.create(MONTREAL, b"other")
        await grove.tree.changes.unlink(MONTREAL, b"other")
        await grove.files.release(other.handle)
        assert sorted(grove.tree.unneeded()) == [settled.inode, refused.inode]

    play(scene)
