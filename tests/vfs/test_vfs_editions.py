"""One inode, one content: what the kernel is given for an image that turns out to have another."""

from __future__ import annotations

import gc
import os
from dataclasses import replace

import pytest
from vfs_fakes import FakeContent, Grove, image, play

from imagefs.core.inodes import image_inode, region_inode
from imagefs.errors import NotFound, Outdated, Unreachable
from imagefs.vfs.editions import Edition
from imagefs.vfs.nodes import Image

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


def test_an_inode_is_of_one_content_that_is_kept_over_closing() -> None:
    """Of what was proved, its key says enough. Else it has to be the very same, whose readers are taken account of."""

    async def scene() -> None:
        grove = await grown()
        contents = grove.library.contents

        async def goes_on(inode: int) -> bool:
            try:
                opened = await grove.tree.open(inode, os.O_RDONLY)
            except Outdated:
                return False
            await grove.files.release(opened.handle)
            return True

        assert await goes_on(FIRST)
        contents.clear()
        assert await goes_on(FIRST)  # it was proved, and is again

        (content,) = contents.values()
        content.keepable = False
        assert await goes_on(FIRST)
        contents.clear()
        assert not await goes_on(FIRST)
        newer = await grove.find(b"toronto", b"a")
        assert await goes_on(newer)
        grove.account.change_details("1", checksum="0" * 32)
        assert not await goes_on(newer)

    play(scene)


def test_what_is_proved_is_not_completed_by_what_is_not() -> None:
    """Nobody would know what of it was delivered already."""

    async def scene() -> None:
        grove = await grown()
        opened = await grove.tree.open(FIRST, os.O_RDONLY)
        await grove.files.release(opened.handle)
        (key,) = grove.library.contents
        grove.library.contents[key] = FakeContent(key, keepable=False)
        assert await opened_anew(grove, FIRST) != FIRST

    play(scene)


@pytest.mark.parametrize("found_again", [False, True], ids=["gone", "looked up again"])
def test_an_inode_can_be_forgotten_before_its_file_is_closed(found_again: bool) -> None:
    """Closing is told in the background, where other requests may be waited for, and FORGET passes by them."""

    async def scene() -> None:
        grove = await grown()
        old = await grove.tree.open(FIRST, os.O_RDONLY)
        grove.tree.forget(FIRST, 1)
        if found_again:
            assert await grove.find(b"toronto", b"a") == FIRST
            await grove.tree.open(FIRST, os.O_RDONLY)
        await grove.files.release(old.handle)
        assert grove.library.closed == grove.library.opened[:1]
        if found_again:
            grove.account.change_details("1", checksum="0" * 32)
            assert await opened_anew(grove, FIRST) != FIRST  # the second handle still has the old

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


def test_what_was_told_without_a_size_is_never_opened() -> None:
    """The kernel may take it for empty even after it asked again: it drops answers that others overtook."""

    async def scene() -> None:
        grove = Grove(image("1", "a"))
        await grove.find(b"toronto")
        details, grove.account.known = grove.account.known, set()
        handle = await grove.tree.open_directory(TORONTO)
        node, found = grove.tree.listed((await grove.tree.entries(handle, anew=True))[3].node)
        assert (found.size_bytes, found.ttl_s) == (0, 0.0)
        grove.tree.remember(node)
        grove.account.known = details
        found = await grove.tree.attributes(FIRST)
        assert (found.inode, found.size_bytes) == (FIRST, 1000)
        assert await opened_anew(grove, FIRST) != FIRST

    play(scene)


def test_a_name_that_is_another_images_by_now_leads_there() -> None:
    """The kernel keeps names for a moment, though the image that had it was renamed by a name that carries its id."""

    async def scene() -> None:
        grove = Grove(image("1", "a"), image("2", "a"), image("3", "a", "montreal"))
        montreal = await grove.find(b"montreal")
        known = [await grove.find(b"toronto", b"a~1"), await grove.find(b"montreal", b"a")]
        await grove.tree.changes.rename(montreal, b"a", TORONTO, b"b", exchange=False)
        grove.account.going.clear()
        first, second, replica = (await grove.account.images()).images
        grove.account.change_details(replica.image_id, status="active")
        grove.account.list_anew(first, second, replace(replica, name="a", status="active"))
        for name, new in ((b"a~1", b"c"), (f"a~{replica.image_id}".encode(), b"d")):
            await grove.tree.changes.rename(TORONTO, name, TORONTO, new, exchange=False)
        for inode in known:
            with pytest.raises(Outdated):
                await grove.tree.open(inode, os.O_RDONLY)
        await grove.tree.open(await grove.find(b"toronto", b"a"), os.O_RDONLY)

    play(scene)


def test_a_renamed_image_stays_the_same_inode() -> None:
    """It keeps its pages. No name that the kernel may know is another image's."""

    async def scene() -> None:
        grove = await grown()
        await grove.tree.changes.rename(TORONTO, b"a", TORONTO, b"c", exchange=False)
        await grove.tree.open(FIRST, os.O_RDONLY)

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


def held() -> int:
    """How many objects this process holds for what the kernel knows of images."""
    gc.collect()
    return sum(isinstance(one, (Edition, Image)) for one in gc.get_objects())


def test_nothing_is_held_for_an_image_that_is_gone() -> None:
    """The kernel knows its name until it needs the memory, which may be never."""

    async def scene() -> None:
        rows = [image(str(number), f"image-{number}") for number in range(1, 101)]
        before = held()
        grove = Grove(*rows)
        inodes = [await grove.find(b"toronto", row.name.encode()) for row in rows]
        assert held() >= before + 2 * len(rows)
        grove.account.list_anew()
        assert held() <= before + 1
        for inode in inodes:
            with pytest.raises(Outdated):
                await grove.tree.attributes(inode)
            grove.tree.forget(inode, 1)
            with pytest.raises(NotFound):
                await grove.tree.attributes(inode)

    play(scene)


def test_an_image_that_is_there_again_is_another_inode_for_as_long_as_the_kernel_knows_the_first() -> None:
    """Its content may be another, and what the kernel drops of the first is not the second's."""

    async def scene() -> None:
        grove = await grown()
        assert await grove.find(b"toronto", b"a") == FIRST
        rows = (await grove.account.images()).images
        for lookups_left in (2, 1, 0):
            grove.account.list_anew()
            grove.account.list_anew(*rows)
            found = await grove.find(b"toronto", b"a")
            opened = await grove.tree.open(found, os.O_RDONLY)
            await grove.files.release(opened.handle)
            assert (found == FIRST) == (not lookups_left)
            if lookups_left:
                with pytest.raises(Outdated):
                    await grove.tree.open(FIRST, os.O_RDONLY)
                grove.tree.forget(FIRST, 1)

    play(scene)


def test_nothing_is_held_for_an_inode_that_the_kernel_was_never_told_of() -> None:
    """It drops only inodes that it was given. A name that was changed or outdated may never be looked up again."""

    async def scene() -> None:
        grove = Grove(image("1", "a"), image("2", "a"))
        name = b"a~1"
        inode = await grove.find(b"toronto", name)
        before = held()
        for number in range(50):
            old, name = name, f"a{number}~1".encode()
            await grove.tree.changes.rename(TORONTO, old, TORONTO, name, exchange=False)
            with pytest.raises(Outdated):
                await grove.tree.open(inode, os.O_RDONLY)
        assert held() <= before
        grove.tree.forget(inode, 1)
        assert await grove.find(b"toronto", name) == FIRST

    play(scene)


def test_what_is_open_or_moved_is_held_though_it_is_gone() -> None:
    """Who reads on is shown what he reads, and who has what was moved is led to its replica."""

    async def scene() -> None:
        grove = Grove(image("1", "a"), image("2", "b"))
        first, second = await grove.find(b"toronto", b"a"), await grove.find(b"toronto", b"b")
        montreal = await grove.find(b"montreal")
        opened = await grove.tree.open(first, os.O_RDONLY)
        await grove.tree.changes.rename(TORONTO, b"b", montreal, b"b", exchange=False)
        grove.account.going.clear()
        _, replica = (await grove.account.images()).images
        grove.account.list_anew(image("2", "b"), replica)
        grove.account.list_anew(replica)
        assert (await grove.tree.attributes(first)).links == 0
        assert await grove.files.read(opened.handle, 0, 3) == b"xxx"
        assert (await grove.tree.attributes(second)).links == 1

    play(scene)


def test_what_is_moved_is_held_until_the_last_of_its_inodes_is_forgotten() -> None:
    """The kernel may have been given it without a size first."""

    async def scene() -> None:
        grove = Grove(image("1", "a"))
        await grove.find(b"toronto")
        montreal = await grove.find(b"montreal")
        details, grove.account.known = grove.account.known, set()
        handle = await grove.tree.open_directory(TORONTO)
        vague, _ = grove.tree.listed((await grove.tree.entries(handle, anew=True))[3].node)
        grove.tree.remember(vague)
        grove.account.known = details
        inode = await grove.find(b"toronto", b"a")
        assert inode != vague.inode
        await grove.tree.changes.rename(TORONTO, b"a", montreal, b"a", exchange=False)
        grove.tree.forget(vague.inode, 1)
        assert (await grove.tree.attributes(inode)).links == 1
        grove.tree.forget(inode, 1)
        with pytest.raises(NotFound):
            await grove.tree.attributes(inode)

    play(scene)
