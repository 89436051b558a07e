"""The tree without a kernel: names, attributes, handles, and what happens behind the mount's back."""

from __future__ import annotations

import os
import stat

import pytest
from vfs_fakes import MD5, MOUNTED_NS, Grove, image, play

from imagefs.core.inodes import image_inode, region_inode
from imagefs.core.models import ContentKey
from imagefs.errors import (
    ContentWrong,
    CredentialsRefused,
    Exists,
    ImageFailed,
    ImagePending,
    ImageUnusable,
    IsDirectory,
    MalformedAnswer,
    NameNotUtf8,
    NameTooLong,
    NoAttribute,
    NotDirectory,
    NotFound,
    NotPermitted,
    ReadOnly,
    Refused,
    ServiceError,
    Unreachable,
)

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
        grove.account.failures["1"] = Unreachable("no route")
        with pytest.raises(Unreachable):
            await grove.find(b"toronto", b"debian.iso")
        with pytest.raises(NotFound):
            await grove.tree.attributes(image_inode("1"))

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
        assert active.ttl_s > active.entry_ttl_s == 5.0
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
        assert (await grove.tree.set_times(inode, 42)).mtime_ns == 42
        assert (await grove.tree.set_times(inode, None)).mtime_ns == 42
        assert (await grove.tree.set_times(await grove.find(b"toronto"), 42)).mtime_ns == MOUNTED_NS
        with pytest.raises(ReadOnly):
            grove.tree.refuse_truncation(inode)
        with pytest.raises(IsDirectory):
            grove.tree.refuse_truncation(1)
        frozen = Grove(*ROWS, read_only=True)
        with pytest.raises(ReadOnly):
            await frozen.tree.set_times(await frozen.find(b"toronto", b"debian.iso"), 42)

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


def test_a_directory_lists_what_it_was_opened_with() -> None:
    """A handle's entries are stable while the listing changes; the dots are no lookups."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        region = await grove.find(b"toronto")
        handle = await grove.tree.open_directory(region)
        grove.account.list_anew(*ROWS[:1])
        entries = grove.tree.entries(handle)
        assert [(entry.name, entry.dot) for entry in entries] == [
            (b".", True), (b"..", True), (b"debian.iso", False), (b"twin~2", False), (b"twin~3", False),
            (b"new", False), (b"broken", False),
        ]  # fmt: skip
        assert [grove.tree.entry_attributes(entry.node).inode for entry in entries[:3]] == [
            region, 1, image_inode("1"),
        ]  # fmt: skip
        assert grove.tree.entry_attributes(entries[3].node).ttl_s == 0.0
        grove.tree.remember(entries[2].node)
        assert (await grove.tree.attributes(image_inode("1"))).size_bytes == 1000
        grove.tree.close_directory(handle)
        grove.tree.close_directory(handle)
        root = await grove.tree.open_directory(1)
        assert {entry.name for entry in grove.tree.entries(root)} == {
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
        for entry in grove.tree.entries(handle)[2:]:
            found = grove.tree.entry_attributes(entry.node)
            assert (found.size_bytes, found.ttl_s, found.entry_ttl_s) == (0, 0.0, 0.0)

    play(scene)


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
        assert await tree.read(opened.handle, 990, 100) == b"x" * 10
        assert tree.read_now(opened.handle, 0, memoryview(bytearray(10))) is None
        (reader,) = grove.library.opened
        assert reader.content.key == ContentKey(1000, MD5)
        reader.failure = ContentWrong("wrong twice")
        with pytest.raises(ContentWrong):
            await tree.read(opened.handle, 0, 10)
        assert grove.account.errors["1"] == "wrong twice"
        tree.release(opened.handle)
        tree.release(opened.handle)
        assert grove.library.closed == [reader]

    play(scene)


def test_the_kernel_keeps_only_what_is_proved_and_the_same() -> None:
    """Its cache is kept over an open only where all it can have read is the proved content of now."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        tree = grove.tree
        inode = await grove.find(b"toronto", b"debian.iso")

        async def keeps() -> bool:
            opened = await tree.open(inode, os.O_RDONLY)
            tree.release(opened.handle)
            return opened.keep_cache

        assert [await keeps(), await keeps()] == [False, True]
        grove.account.change_details("1", size_bytes=999)
        assert [await keeps(), await keeps()] == [False, True]
        opened = await tree.open(inode, os.O_RDONLY)
        grove.library.opened[-1].content.keepable = False
        tree.release(opened.handle)
        assert [await keeps(), await keeps()] == [False, True]

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
        assert grove.forgotten == [(region_inode("toronto"), b"debian.iso")]
        found = await tree.attributes(inode)
        assert (found.size_bytes, found.links, found.ttl_s) == (1000, 0, 0.0)
        assert await tree.read(opened.handle, 0, 5) == b"xxxxx"
        for refused in (
            tree.open(inode, os.O_RDONLY),
            tree.xattr_names(inode),
            grove.find(b"toronto", b"debian.iso"),
        ):
            with pytest.raises(NotFound):
                await refused
        tree.release(opened.handle)
        with pytest.raises(NotFound):
            await tree.attributes(inode)

    play(scene)


def test_the_kernel_forgets_names_that_mean_something_else() -> None:
    """Renamed, newly ambiguous, no longer ambiguous and newly active images lose their old names; others keep them."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        toronto = region_inode("toronto")
        rows = {row.image_id: row for row in ROWS}
        rows["2"] = image("2", "single")
        rows["4"] = image("4", "new")
        rows["7"] = image("7", "debian.iso")
        grove.account.list_anew(*rows.values())
        assert sorted(grove.forgotten) == sorted(
            (toronto, name) for name in (b"debian.iso", b"twin~2", b"twin~3", b"new")
        )

    play(scene)


def test_changed_content_is_fetched_no_more_and_measured_anew() -> None:
    """When details change the content, the old is cut off from its image and the kernel drops the old size."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        grove.account.change_details("1", size_bytes=5)
        assert grove.library.gone == ["1"]
        assert grove.forgotten == [(region_inode("toronto"), b"debian.iso")]
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


def test_every_change_is_refused_for_its_reason() -> None:
    """Changes of images, and of the structure, each have a refusal; a file is no directory."""

    async def scene() -> None:
        grove = Grove(*ROWS)
        inode = await grove.find(b"toronto", b"debian.iso")
        assert isinstance(grove.tree.refusal_of_change(1), ReadOnly)
        assert isinstance(grove.tree.refusal_of_structure(1), NotPermitted)
        assert isinstance(Grove(*ROWS, read_only=True).tree.refusal_of_structure(1), ReadOnly)
        for refusal in (grove.tree.refusal_of_change, grove.tree.refusal_of_structure):
            with pytest.raises(NotDirectory):
                refusal(inode)

    play(scene)
