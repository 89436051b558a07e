"""What the mount tells its owner and does for him, by attributes that nobody lists."""

from __future__ import annotations

import json

import pytest
from vfs_fakes import FakeRow, Grove, play

from imagefs.core.models import ContentKey, ListedImage
from imagefs.errors import Busy, CacheUnusable, InvalidArgument, NoAttribute, NotSupported
from imagefs.vfs.steward import (
    CONTENTS,
    EVICT,
    PAGE_ROWS,
    PIN,
    PINNED,
    STATUS,
    UNPIN,
    VERIFY,
    content_row,
)

ROW = ListedImage("1", "a.iso", "toronto", "active")


def test_only_the_owner_is_told() -> None:
    """For others they are not there, and for nobody are they listed."""

    async def scene() -> None:
        grove = Grove(ROW)
        image = await grove.find(b"toronto", b"a.iso")
        for inode, name in ((1, STATUS), (1, CONTENTS + b"0"), (1, VERIFY + b"7..1")):
            assert json.loads(await grove.tree.xattr(inode, name, for_owner=True)) is not None
            with pytest.raises(NoAttribute):
                await grove.tree.xattr(inode, name)
            assert name not in await grove.tree.xattr_names(inode)
        for name in (EVICT, PIN, UNPIN):
            with pytest.raises(NoAttribute):
                await grove.tree.xattr(image, name)
        assert grove.cache.pins.kept == []

    play(scene)


def test_pins() -> None:
    """Set, seen, removed; of the content, whichever image it is asked of."""

    async def scene() -> None:
        grove = Grove(ROW)
        image = await grove.find(b"toronto", b"a.iso")
        with pytest.raises(NoAttribute):
            await grove.tree.xattr(image, PINNED, for_owner=True)
        await grove.tree.xattr(image, PIN, for_owner=True)
        assert await grove.tree.xattr(image, PINNED, for_owner=True) == b"yes"
        assert len(grove.cache.pins.kept) == 1
        await grove.tree.xattr(image, UNPIN, for_owner=True)
        assert grove.cache.pins.kept == []

    play(scene)


def test_evicting() -> None:
    """One content, or all that is not pinned."""

    async def scene() -> None:
        grove = Grove(ROW)
        image = await grove.find(b"toronto", b"a.iso")
        await grove.tree.xattr(image, PIN, for_owner=True)
        (own,) = grove.cache.pins.kept
        other = ContentKey(7, None, "other")
        grove.cache.keys = [own, other]
        await grove.tree.xattr(1, EVICT, for_owner=True)
        assert grove.cache.keys == [own]
        with pytest.raises(Busy):
            await grove.tree.xattr(image, EVICT, for_owner=True)
        await grove.tree.xattr(image, UNPIN, for_owner=True)
        await grove.tree.xattr(image, EVICT, for_owner=True)
        assert grove.cache.keys == []

    play(scene)


def test_one_that_cannot_be_evicted() -> None:
    """It is told, after all others went."""

    async def scene() -> None:
        grove = Grove(ROW)
        grove.cache.keys = [ContentKey(7, None, image_id) for image_id in ("1", "2", "3")]
        grove.cache.stuck = grove.cache.keys[1]
        with pytest.raises(CacheUnusable):
            await grove.tree.xattr(1, EVICT, for_owner=True)
        assert grove.cache.keys == [grove.cache.stuck]

    play(scene)


def test_verifying() -> None:
    """Any content that is cached, whether an image has it or not."""

    async def scene() -> None:
        grove = Grove(ROW)
        for name in (b"2199023255552.%s." % (b"0f" * 16), b"7..a-_Z"):
            found = json.loads(await grove.tree.xattr(1, VERIFY + name, for_owner=True))
            assert found == {"checked": 5, "damaged": 0}
        assert grove.cache.verified == [ContentKey(2**41, "0f" * 16), ContentKey(7, None, "a-_Z")]
        for name in (b"", b"7", b"7..", b"-7..1", b"7.0f.", b"7../", b"%d..1" % 10**19):
            with pytest.raises(InvalidArgument):
                await grove.tree.xattr(1, VERIFY + name, for_owner=True)

    play(scene)


def test_pages_of_what_is_cached() -> None:
    """All rows, each once, and an empty page at the end."""

    async def scene() -> None:
        grove = Grove(ROW)
        grove.cache.keys = [ContentKey(2**40, "0" * 32, "x" * 64) for _ in range(PAGE_ROWS + 1)]
        pages = [
            await grove.tree.xattr(1, CONTENTS + str(start).encode(), for_owner=True)
            for start in (0, PAGE_ROWS, 2 * PAGE_ROWS)
        ]
        assert [len(json.loads(page)) for page in pages] == [PAGE_ROWS, 1, 0]
        longest = content_row(
            FakeRow(grove.cache.keys[0], pinned=False), "\u00e9" * 127 + "/" + "\u00e9" * 127
        )
        assert len(json.dumps([longest] * PAGE_ROWS)) < 64 * 1024
        for start in (b"", b"-1", b"x"):
            with pytest.raises(InvalidArgument):
                await grove.tree.xattr(1, CONTENTS + start, for_owner=True)

    play(scene)


def test_the_path_of_what_is_cached_leads_there() -> None:
    """Also where the service calls a region what no directory can be called."""

    async def scene() -> None:
        grove = Grove(ListedImage("1", "a.iso", "r" * 10_000, "active"))
        details = await grove.account.details("1")
        assert details.content_key is not None
        grove.cache.keys = [details.content_key] * PAGE_ROWS
        page = await grove.tree.xattr(1, CONTENTS + b"0", for_owner=True)
        assert len(page) < 64 * 1024
        path = json.loads(page)[0]["path"]
        assert (
            await grove.tree.xattr(await grove.find(*path.encode().split(b"/")), b"user.imagefs.id") == b"1"
        )

    play(scene)


def test_what_stands_for_nothing() -> None:
    """What is done is done with a kind of file that it can be done with."""

    async def scene() -> None:
        grove = Grove(ROW)
        image, region = await grove.find(b"toronto", b"a.iso"), await grove.find(b"toronto")
        wrong = [(1, PIN), (image, b"user.x"), (image, CONTENTS + b"0"), (region, EVICT), (region, PIN)]
        for inode, name in wrong:
            with pytest.raises(NoAttribute):
                await grove.tree.xattr(inode, name, for_owner=True)
        with pytest.raises(NotSupported):
            await grove.tree.set_xattr(image, PIN)
        with pytest.raises(NotSupported):
            await grove.tree.remove_xattr(image, PINNED)

    play(scene)
