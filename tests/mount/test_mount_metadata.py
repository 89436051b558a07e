"""Looking at the tree: what it shows, what that costs, and that it never fetches content."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime

import pytest
from mount_programs import MYSELF, attempt, eventually, refusal, run, text

MIB = 1 << 20

METADATA_COMMANDS = (
    ("ls", "-lR"),
    ("ls", "-l", "--author", "-Z"),
    ("find", "-type", "f", "-size", "+1k", "-newermt", "2000-01-01"),
    ("du", "-ab"),
    ("du", "-s"),
    ("df", "."),
    ("stat", "toronto/a.iso"),
    ("stat", "-f", "toronto/a.iso"),
    ("getfattr", "-R", "-d", "-m", "-", "."),
    ("getfacl", "-R", "."),
    ("rsync", "-r", "--list-only", "./"),
    ("rsync", "-rn", "./", "/nowhere/"),
    ("test", "-r", "toronto/a.iso"),
)


def test_ls_of_five_thousand_images_is_one_call(service, mount):
    """Listing a large region costs the one image/list call that the mount began with, and no details."""
    service.add_listed((f"image {number:04d}.iso" for number in range(5000)), "toronto", b"content")
    mounted = mount()
    assert len(text("ls", mounted / "toronto").splitlines()) == 5000
    assert len(text("ls", mounted / "toronto").splitlines()) == 5000
    assert (service.ledger.count("list"), service.ledger.count()) == (1, 1)


def test_details_are_fetched_once_ever(service, mount):
    """The first ls -l fetches the details of each image; another, and another mount, none."""
    service.add_listed((f"{number}.iso" for number in range(300)), "toronto", b"x" * 1000)
    mounted = mount()
    listed = text("ls", "-l", mounted / "toronto")
    assert service.ledger.count("details") == 300
    assert text("ls", "-l", mounted / "toronto") == listed
    assert service.ledger.count() == 301

    mounted.remount()
    assert text("ls", "-l", mounted / "toronto") == listed
    assert (service.ledger.count("details"), service.ledger.count("list")) == (300, 2)


@pytest.mark.parametrize("command", METADATA_COMMANDS, ids=" ".join)
def test_metadata_never_fetches_content(service, mount, command):
    """No program that only looks at names and attributes starts a transfer."""
    service.add_synthetic("a.iso", "toronto", MIB)
    service.add_image("b.img", "montreal", b"x" * 5000, disk_format="qcow2")
    mounted = mount()
    run("env", "-C", mounted.path, *command)
    assert service.ledger.count("retrieve") == 0


def test_regions_are_those_of_the_page_and_any_other(service, mount):
    """The documented regions are there even when empty, and so is a new one that the listing names."""
    service.add_image("a", "atlantis", b"x")
    assert text("ls", mount().path).splitlines() == ["atlantis", "montreal", "roubaix", "toronto"]


def test_an_image_looks_like_a_read_only_file(service, mount):
    """Size, times, mode, owner and links come from the details and from who mounted."""
    service.add_image("a.iso", "toronto", b"x" * 1234, time_created="2018-12-17T00:23:09.000000")
    mounted = mount()
    status = (mounted / "toronto" / "a.iso").stat()
    created_s = datetime(2018, 12, 17, 0, 23, 9, tzinfo=UTC).timestamp()
    assert (status.st_size, status.st_mtime, status.st_nlink) == (1234, created_s, 1)
    assert status.st_ctime == created_s
    assert (stat.filemode(status.st_mode), status.st_uid, status.st_gid) == (
        "-r--r--r--",
        MYSELF.uid,
        MYSELF.gid,
    )
    modes = ("stat", "-c", "%A", mounted / "toronto", mounted / "toronto/.fetch")
    assert text(*modes).split() == ["drwxr-xr-x", "-rw-r--r--"]
    mounted.remount("--read-only")
    assert text(*modes).split() == ["dr-xr-xr-x", "-r--r--r--"]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 3 * MIB + 1])
def test_blocks_cover_the_whole_size(service, mount, size):
    """st_blocks never says that a file is sparse: cp would then read it all in place of having it copied."""
    service.add_synthetic("a", "toronto", size)
    status = (mount() / "toronto" / "a").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 >= size


def test_ownership_is_as_mounted(service, mount):
    """uid, gid and umask can be given as options, and as fstab writes them."""
    service.add_image("a", "toronto", b"x")
    mounted = mount("--uid", "1234", "--gid", "2345", "--umask", "027")
    assert text("stat", "-c", "%u %g %a", mounted / "toronto/a") == "1234 2345 440"
    assert text("stat", "-c", "%u %g %a", mounted / "toronto") == "1234 2345 750"
    mounted.umount()
    other = mount("-o", "rw,noatime,uid=7,gid=8,umask=077,_netdev", name="b")
    assert text("stat", "-c", "%u %g %a", other / "toronto/a") == "7 8 400"


def test_inode_numbers_are_stable_and_distinct(service, mount):
    """Each image keeps its inode number over remounts, without a cache too, and shares it with no other."""
    service.add_listed((f"{number}" for number in range(50)), "toronto", b"x")
    service.add_listed((f"{number}" for number in range(50)), "montreal", b"x")
    mounted = mount()
    before = text("find", mounted.path, "-printf", "%i %P\n").splitlines()
    numbers = [line.split()[0] for line in before]
    assert len(set(numbers)) == len(numbers) == 107
    mounted.umount()
    run("rm", "-r", mounted.cache_dir)
    mounted.mount()
    assert sorted(text("find", mounted.path, "-printf", "%i %P\n").splitlines()) == sorted(before)


def test_listed_and_looked_up_inodes_agree(service, mount):
    """A name has the same inode number in a directory's listing and in stat."""
    service.add_listed(("a", "b"), "toronto", b"x")
    region = mount() / "toronto"
    for entry in os.scandir(region):
        assert entry.inode() == (region / entry.name).stat().st_ino


def test_a_set_mtime_is_kept_on_this_machine(service, mount):
    """touch changes what this machine shows, over remounts, and asks nothing of the service."""
    service.add_image("a", "toronto", b"x")
    mounted = mount()
    run("touch", "-d", "2001-02-03 04:05:06.789 UTC", mounted / "toronto/a")
    mounted.remount()
    assert (mounted / "toronto" / "a").stat().st_mtime_ns == 981173106_789_000_000


def test_mode_and_owner_are_accepted_and_ignored(service, mount):
    """chmod and chown succeed, as programs that copy attributes need, and change nothing."""
    service.add_image("a", "toronto", b"x")
    file = mount() / "toronto/a"
    run("chmod", "777", file)
    run("chown", f"{MYSELF.uid}:{MYSELF.gid}", file)
    assert text("stat", "-c", "%a", file) == "444"


def test_df_shows_what_the_images_take(service, mount):
    """Used is the sum of all images, and there is room for any copy, unless nothing can be written."""
    service.add_synthetic("a", "toronto", 3 * MIB)
    service.add_synthetic("b", "montreal", 5 * MIB)
    mounted = mount()
    columns = ("df", "-B1", "--output=used,avail,source,fstype")
    used, free, source, kind = text(*columns, mounted.path).splitlines()[1].split()
    assert int(used) == 8 * MIB
    assert int(free) > 1 << 40
    assert (source, kind) == (f"imagefs:{service.api_id}", "fuse.imagefs")
    assert f"imagefs:{service.api_id} on {mounted.path} type fuse.imagefs" in text("mount")

    mounted.remount("--read-only")
    used, free, *_ = text(*columns, mounted.path).splitlines()[1].split()
    assert (int(used), int(free)) == (8 * MIB, 0)


def test_extended_attributes_tell_what_the_service_knows(service, mount):
    """Every field of the details is an attribute, beside our own."""
    image_id = service.add_image("a", "toronto", b"abc", disk_format="qcow2", novel_field="ünïcode")
    mounted = mount()
    file = mounted / "toronto/a"
    shown = {
        name: mounted.xattr(file, name)
        for name in ("id", "status", "checksum", "format", "cached", "novel_field")
    }
    assert shown == {
        "id": image_id,
        "status": "active",
        "checksum": "900150983cd24fb0d6963f7d28e17f72",
        "format": "qcow2",
        "cached": "0",
        "novel_field": "ünïcode",
    }
    run("cat", file)
    assert mounted.xattr(file, "cached") == "3"


def test_extended_attributes_cannot_be_changed(service, mount):
    """None can be set or removed, and one that is not there is said to be missing.

    One of an image that is copied along with it is accepted, as its mode is, and stays what it was.
    """
    image_id = service.add_image("a", "toronto", b"abc")
    mounted = mount()
    file = mounted / "toronto/a"
    run("setfattr", "-n", "user.imagefs.id", "-v", "1", file)
    assert mounted.xattr(file, "id") == image_id
    assert "not supported" in refusal("setfattr", "-n", "user.imagefs.do.pin", "-v", "1", file)
    assert "not supported" in refusal("setfattr", "-n", "user.imagefs.id", "-v", "1", mounted / "toronto")
    assert "not supported" in refusal("setfattr", "-n", "user.mine", "-v", "1", file)
    assert "not supported" in refusal("setfattr", "-x", "user.imagefs.id", file)
    assert "No such attribute" in refusal("getfattr", "-n", "user.imagefs.error", file)


def test_nothing_is_found_under_a_wrong_name(service, mount):
    """A name that stands for nothing is ENOENT, one that is too long or not UTF-8 says so."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    assert "No such file" in refusal("stat", mounted / "toronto/b")
    assert "No such file" in refusal("stat", mounted / "nowhere")
    assert "Not a directory" in refusal("stat", mounted / "toronto/a/b")
    assert "File name too long" in refusal("stat", mounted / "toronto" / ("x" * 256))
    wrong = os.fsencode(mounted / "toronto") + b"/\xff"
    assert "Invalid or incomplete multibyte" in attempt("stat", os.fsdecode(wrong)).stderr.decode()


def test_a_broken_image_does_not_hide_the_others(service, mount):
    """An image whose details make no sense is listed, says why, and leaves the rest alone."""
    service.add_image("good", "toronto", b"abc")
    service.add_image("no size", "toronto", b"abc", size="NaN")
    service.add_image("negative", "toronto", b"abc", size="-1")
    service.add_image("too large", "toronto", b"abc", size=str(2**60))
    mounted = mount()
    mounted.may_log("cannot be read|makes no sense|size")
    assert text("ls", mounted / "toronto").splitlines() == ["good", "negative", "no size", "too large"]
    assert run("cat", mounted / "toronto/good") == b"abc"
    for name in ("no size", "negative", "too large"):
        assert (mounted / "toronto" / name).stat().st_size == 0
        assert "Input/output error" in refusal("cat", mounted / "toronto" / name)
        assert "size" in mounted.xattr(mounted / "toronto" / name, "error")


@pytest.mark.parametrize("checksum", ["no MD5 at all", None])
def test_an_image_that_cannot_be_checked_is_not_moved(service, mount, checksum):
    """Without an MD5 its size alone is compared; where the service gives a senseless one, nothing can be proved."""
    service.add_image("a", "toronto", b"abc", checksum=checksum)
    mounted = mount()
    mounted.may_log("cannot be read")
    file = mounted / "toronto/a"
    if checksum is None:
        assert run("cat", file) == b"abc"
    else:
        assert "Input/output error" in refusal("cat", file)
        assert checksum in mounted.xattr(file, "error")
    assert "not supported" in refusal("mv", file, mounted / "montreal/a")
    assert [image.region for image in service.images()] == ["toronto"]


def test_a_removed_image_is_gone_within_the_listings_lifetime(service, mount):
    """What others remove disappears when the listing is asked for again, which is soon while one is pending."""
    image_id = service.add_image("a", "toronto", b"abc")
    service.add_image("new", "toronto", b"abc", status="saving")
    mounted = mount()
    run("stat", mounted / "toronto/a")
    service.remove_image(image_id)
    eventually(lambda: text("ls", mounted / "toronto").splitlines() == ["new"])
    eventually(lambda: b"No such file" in attempt("stat", mounted / "toronto/a").stderr)


def test_a_pending_image_becomes_readable(service, mount):
    """An image that turns active gets its mode, size and content without a remount."""
    image_id = service.add_image("a", "toronto", b"abc", status="queued")
    mounted = mount()
    file = mounted / "toronto/a"
    assert text("stat", "-c", "%a %s", file) == "0 0"
    service.set_status(image_id, "active")
    eventually(lambda: text("stat", "-c", "%a %s", file) == "444 3")
    assert run("cat", file) == b"abc"
