"""One inode, one content: what the kernel is told of an image that turns out to have another."""

from __future__ import annotations

import os

import pytest
from vfs_fakes import Grove, image, play

from imagefs.core.inodes import image_inode, region_inode
from imagefs.errors import Outdated, Unreachable

TORONTO = region_inode("toronto")
FIRST = image_inode("1")


async def grown() -> Grove:
    """A tree with one image, that the kernel has looked up."""
    grove = Grove(image("1", "a"), image("2", "b", "montreal"))
    assert await grove.find(b"toronto", b"a") == FIRST
    return grove


async def opened_anew(grove: Grove, inode: int) -> int:
    """Open *inode*, which is outdated, and the name again as the kernel does; the inode that is open then."""
    with pytest.raises(Outdated):
        await grove.tree.open(inode, os.O_RDONLY)
    newer = await grove.find(b"toronto", b"a")
    await grove.tree.open(newer, os.O_RDONLY)
    return newer


def test_another_size_is_another_inode() -> None:
    """The old one keeps its size, and stat(2) shows both with one number."""

    async def scene() -> None:
        grove = await grown()
        old = await grove.tree.open(FIRST, os.O_RDONLY)
        grove.account.change_details("1", size_bytes=7)
        newer = await opened_anew(grove, FIRST)
        assert newer != FIRST
        for inode, size_bytes in ((FIRST, 1000), (newer, 7)):
            found = await grove.tree.attributes(inode)
            assert (found.inode, found.size_bytes) == (FIRST, size_bytes)
        assert await grove.files.read(old.handle, 990, 20) == b"x" * 10
        assert grove.library.opened[1] in grove.library.closed

    play(scene)


def test_other_bytes_are_another_inode_while_somebody_has_the_old() -> None:
    """Else the kernel gives one the pages of the other. Once nobody has them, the inode can be used again."""

    async def scene() -> None:
        grove = await grown()
        old = await grove.tree.open(FIRST, os.O_RDONLY)
        grove.account.change_details("1", checksum="0" * 32)
        newer = await opened_anew(grove, FIRST)
        assert newer != FIRST
        with pytest.raises(Outdated):
            await grove.tree.open(FIRST, os.O_RDONLY)

        await grove.files.release(old.handle)
        grove.tree.forget(FIRST, 1)
        for _ in range(2):
            grove.tree.forget(newer, 1)
        assert await grove.find(b"toronto", b"a") in (FIRST, newer)

    play(scene)


def test_a_content_fetched_anew_is_another_inode() -> None:
    """Who holds bytes that turned out wrong has pages with such bytes."""

    async def scene() -> None:
        grove = await grown()
        opened = await grove.tree.open(FIRST, os.O_RDONLY)
        same = await grove.tree.open(FIRST, os.O_RDONLY)
        grove.library.generation = 1
        newer = await opened_anew(grove, FIRST)
        assert newer != FIRST
        for handle in (opened.handle, same.handle):
            await grove.files.release(handle)

    play(scene)


def test_a_size_is_told_before_an_image_is_opened() -> None:
    """Else the kernel would take the file for an empty one."""

    async def scene() -> None:
        grove = Grove(image("1", "a"))
        await grove.find(b"toronto")
        details, grove.account.known = grove.account.known, set()
        handle = await grove.tree.open_directory(TORONTO)
        node, found = grove.tree.listed((await grove.tree.entries(handle, anew=True))[3].node)
        assert (found.size_bytes, found.ttl_s) == (0, 0.0)
        grove.tree.remember(node)
        grove.account.known = details
        assert await opened_anew(grove, FIRST) == FIRST

    play(scene)


def test_an_inode_keeps_its_size_while_nothing_is_known() -> None:
    """An image whose details are missing, or that is being saved again, is no shorter for who has it open."""

    async def scene() -> None:
        grove = await grown()
        await grove.tree.open(FIRST, os.O_RDONLY)
        grove.account.known = set()
        grove.account.failures["1"] = Unreachable("no route")
        grove.account.list_anew(image("1", "a", status="saving"))
        for found in (await grove.tree.attributes(FIRST), await grove.tree.lookup(TORONTO, b"a")):
            assert (found.size_bytes, found.mode & 0o777, found.ttl_s) == (1000, 0, 0.0)

    play(scene)
