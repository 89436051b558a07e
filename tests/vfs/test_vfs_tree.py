"""The tree without a kernel: names, attributes, directories."""

from __future__ import annotations

import stat

import pytest
import trio
from vfs_fakes import MOUNTED_NS, Grove, image, play

from imagefs.core.inodes import control_inode, image_inode, region_inode
from imagefs.errors import (
    CredentialsRefused,
    MalformedAnswer,
    NameNotUtf8,
    NameTooLong,
    NotDirectory,
    NotFound,
    ReadOnly,
    Refused,
    ServiceError,
    Unreachable,
)
from imagefs.vfs.attributes import NAMES_TTL_S
from imagefs.vfs.tree import LOOKUP_PATIENCE_S

ROWS = (
    image("1", "debian.iso"),
    image("2", "twin"),
    image("3", "twin"),
    image("4", "new", status="queued"),
    image("5", "broken", status="killed"),
    image("6", "a/b", region="montreal"),
)


def test_paths_lead_to_images() -> None:
    """Regions and images are found under the names that the naming rules give them."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        assert await grove.find(b"toronto", b"debian.iso") == image_inode("1")
        assert await grove.find(b"toronto", b"twin~3") == image_inode("3")
        assert await grove.find(b"toronto", b"debian~1.iso") == image_inode("1")
        assert await grove.find(b"montreal", b"a%2Fb") == image_inode("6")
        assert await grove.find(b"roubaix") == region_inode("roubaix")

    play(scene)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ((b"nowhere",), NotFound),
        ((b"toronto", b"twin"), NotFound),
        ((b"toronto", b"twin~9"), NotFound),
        ((b"toronto", b"debian.iso", b"x"), NotDirectory),
        ((b"toronto", b"x" * 256), NameTooLong),
        ((b"toronto", b"\xff"), NameNotUtf8),
        ((b"\xff",), NameNotUtf8),
    ],
)
def test_paths_that_lead_nowhere(path: tuple[bytes, ...], error: type[Exception]) -> None:
    """Each kind of wrong path has its error."""

    async def scene() -> None:
        with pytest.raises(error):
            await Grove(*ROWS).find(*path)

    play(scene)


def test_the_kernel_s_references_are_counted() -> None:
    """A node is known until as many lookups were taken back as there were; the root always is."""

    async def scene() -> None:
        tree = (grove := Grove(*ROWS)).tree
        inode = await grove.find(b"toronto", b"debian.iso")
        await grove.find(b"toronto", b"debian.iso")
        tree.forget(inode, 1)
        assert (await tree.attributes(inode)).inode == inode
        tree.forget(inode, 1)
        with pytest.raises(NotFound):
            await tree.attributes(inode)
        tree.forget(inode, 5)
        tree.forget(1, 100)
        assert (await tree.attributes(1)).inode == 1

    play(scene)


def test_a_failed_lookup_is_not_counted() -> None:
    """The kernel never takes back what it was not given."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        with pytest.raises(NotFound):
            await grove.find(b"toronto", b"debian")
        with pytest.raises(NotFound):
            await grove.tree.attributes(image_inode("1"))

    play(scene)


def test_a_name_does_not_wait_for_details() -> None:
    """Not for long, and not at all for those that cannot be had; who asks for more than the name waits, or is told."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        region = await grove.find(b"toronto")
        grove.account.known = set()
        grove.account.failures["1"] = Unreachable("no route")
        grove.account.hanging["2"] = trio.Event()
        for name, waited_s in ((b"debian.iso", 0.0), (b"twin~2", LOOKUP_PATIENCE_S)):
            began = trio.current_time()
            found = await grove.tree.lookup(region, name)
            assert trio.current_time() - began == pytest.approx(waited_s)
            assert (found.size_bytes, found.ttl_s, found.entry_ttl_s) == (0, 0.0, 0.0)
        with pytest.raises(Unreachable):
            await grove.tree.attributes(image_inode("1"))
        grove.account.hanging["2"].set()
        assert (await grove.tree.attributes(image_inode("2"))).size_bytes == 1000

    play(scene)


def test_attributes_of_images() -> None:
    """Size, times, modes and how long the kernel may keep them, by status."""

    async def scene() -> None:
        grove = Grove(*ROWS, umask=0o027)
        active = await grove.tree.attributes(await grove.find(b"toronto", b"debian.iso"))
        assert stat.S_ISREG(active.mode)
        assert stat.S_IMODE(active.mode) == 0o440
        assert (active.size_bytes, active.sectors, active.links) == (1000, 2, 1)
        assert (active.mtime_ns, active.uid, active.gid) == (7_000_000_000, 1000, 100)
        assert active.ttl_s > active.entry_ttl_s == NAMES_TTL_S
        for name in (b"new", b"broken"):
            other = await grove.tree.attributes(await grove.find(b"toronto", name))
            assert stat.S_IMODE(other.mode) == 0
            assert (other.ttl_s, other.entry_ttl_s) == (0.0, 0.0)

    play(scene)


@pytest.mark.parametrize(("read_only", "mode"), [(False, 0o755), (True, 0o555)])
def test_attributes_of_directories(read_only: bool, mode: int) -> None:
    """Regions say whether they can be changed."""

    async def scene() -> None:
        grove = Grove(*ROWS, read_only=read_only)
        for inode in (1, await grove.find(b"toronto")):
            found = await grove.tree.attributes(inode)
            assert found.mode == stat.S_IFDIR | mode
            assert found.mtime_ns == MOUNTED_NS

    play(scene)


@pytest.mark.parametrize("error", [Refused("no"), MalformedAnswer("what")])
def test_an_image_without_details_is_shown_with_its_error(error: ServiceError) -> None:
    """One bad image has attributes, and says what is wrong."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        grove.account.known = set()
        grove.account.failures["1"] = error
        inode = await grove.find(b"toronto", b"debian.iso")
        assert (await grove.tree.attributes(inode)).size_bytes == 0
        assert await grove.tree.xattr(inode, b"user.imagefs.error") == str(error).encode()

    play(scene)


def test_an_mtime_is_kept_and_read_only_keeps_none() -> None:
    """touch sets a local time; a read-only mount refuses it, and nothing can be truncated."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        inode = await grove.find(b"toronto", b"debian.iso")
        assert (await grove.tree.set_attributes(inode, mode=None, mtime_ns=42)).mtime_ns == 42
        assert (await grove.tree.set_attributes(inode, mode=None, mtime_ns=None)).mtime_ns == 42
        assert (
            await grove.tree.set_attributes(await grove.find(b"toronto"), mode=None, mtime_ns=42)
        ).mtime_ns == MOUNTED_NS
        with pytest.raises(ReadOnly):
            await grove.tree.truncate(inode, 0)
        frozen = Grove(*ROWS, read_only=True)
        with pytest.raises(ReadOnly):
            await frozen.tree.set_attributes(
                await frozen.find(b"toronto", b"debian.iso"), mode=None, mtime_ns=42
            )

    play(scene)


@pytest.mark.parametrize(
    "error", [Unreachable("no route"), CredentialsRefused("no"), Refused("no"), MalformedAnswer("?")]
)
def test_df_does_without_what_the_service_does_not_say(error: ServiceError) -> None:
    """The sizes that are known are added up, whatever happens with the others."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        grove.account.known = {"1", "6"}
        grove.account.failures = dict.fromkeys("2345", error)
        usage = await grove.tree.usage()
        assert (usage.used_bytes, usage.images) == (2000, 6)

    play(scene)


def test_a_directory_lists_what_it_had_when_its_first_entry_was_read() -> None:
    """A handle's entries are stable while the listing changes; the dots are no lookups."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        region = await grove.find(b"toronto")
        handle = await grove.tree.open_directory(region)
        assert len(await grove.tree.entries(handle, anew=True)) == 8
        grove.account.list_anew(*ROWS[:1])
        entries = await grove.tree.entries(handle, anew=False)
        assert [(entry.name, entry.dot) for entry in entries] == [
            (b".", True), (b"..", True), (b".fetch", False), (b"debian.iso", False),
            (b"twin~2", False), (b"twin~3", False), (b"new", False), (b"broken", False),
        ]  # fmt: skip
        assert [grove.tree.listed(entry.node)[1].inode for entry in entries[:4]] == [
            region, 1, control_inode("toronto"), image_inode("1"),
        ]  # fmt: skip
        assert grove.tree.listed(entries[4].node)[1].ttl_s == 0.0
        grove.tree.remember(entries[3].node)
        assert (await grove.tree.attributes(image_inode("1"))).size_bytes == 1000
        assert [entry.name for entry in await grove.tree.entries(handle, anew=True)][3:] == [b"debian.iso"]
        grove.tree.close_directory(handle)
        grove.tree.close_directory(handle)
        root = await grove.tree.open_directory(1)
        assert {entry.name for entry in await grove.tree.entries(root, anew=True)} == {
            b".",
            b"..",
            b"toronto",
            b"montreal",
            b"roubaix",
        }
        with pytest.raises(NotDirectory):
            await grove.tree.open_directory(image_inode("1"))

    play(scene)


def test_listing_asks_nobody() -> None:
    """What is not known of an entry stays open, to be looked up by who wants it."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        grove.account.known = set()
        grove.account.failures = dict.fromkeys("123456", Unreachable("no route"))
        handle = await grove.tree.open_directory(await grove.find(b"toronto"))
        for entry in (await grove.tree.entries(handle, anew=True))[3:]:
            _, found = grove.tree.listed(entry.node)
            assert (found.size_bytes, found.ttl_s, found.entry_ttl_s) == (0, 0.0, 0.0)

    play(scene)
