"""What is mounted where, and whether a directory can be mounted on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagefs.errors import SetupError
from imagefs.fuse.mountpoint import prepare_mountpoint, unmount
from imagefs.fuse.mounts import absolute, mount_at, mounts
from imagefs.fuse.session import MountOptions

MOUNTINFO = rb"""22 1 8:1 / / rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw
30 22 0:45 / /home/me/my\040images rw,nosuid - fuse.imagefs imagefs:a\134b\011c rw,user_id=0
31 22 0:46 /sub /mnt/with\012newline rw - tmpfs  rw
32 22 0:47 / /caf%s rw - nfs4 server:/x rw
""" % "é".encode()

NOBODY = 65534


def test_mountinfo_is_understood(tmp_path: Path) -> None:
    """Optional fields, octal escapes, an empty source and bytes beyond ASCII are read as the kernel means them."""
    file = tmp_path / "mountinfo"
    file.write_bytes(MOUNTINFO)
    found = mounts(file)
    assert [mount.mountpoint for mount in found] == [
        b"/", b"/home/me/my images", b"/mnt/with\nnewline", "/café".encode(),
    ]  # fmt: skip
    assert [mount.filesystem_type for mount in found] == ["ext4", "fuse.imagefs", "tmpfs", "nfs4"]
    assert [mount.device for mount in found] == ["8:1", "0:45", "0:46", "0:47"]
    assert [mount.source for mount in found] == [b"/dev/sda1", b"imagefs:a\\b\tc", b"", b"server:/x"]


def test_the_machine_s_own_mounts_are_read() -> None:
    """/proc is a mount point on every machine, and a file in it is none."""
    found = mount_at(Path("/proc"))
    assert found is not None
    assert found.filesystem_type == "proc"
    assert mount_at(Path("/proc/self")) is None


def test_paths_are_made_absolute_without_touching_where_they_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parent's links are resolved, dots go, and links to the mount point are read and not followed."""
    tmp_path = tmp_path.resolve()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "shortcut").symlink_to("../link/point")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "real" / "deep").mkdir()
    (tmp_path / "current").symlink_to("real/deep")
    (tmp_path / "up").symlink_to("current/../point")
    (tmp_path / "top").symlink_to("current/..")
    monkeypatch.chdir(tmp_path)
    assert absolute(Path("link/point")) == tmp_path / "real" / "point"
    assert absolute(Path("link/../real/./point/")) == tmp_path / "real" / "point"
    assert absolute(Path("link/shortcut")) == tmp_path / "real" / "point"
    assert absolute(Path("up")) == tmp_path / "real" / "point"
    assert absolute(Path("top")) == tmp_path / "real"
    assert absolute(Path("loop")) == tmp_path / "loop"
    assert absolute(Path("loop/point")) == tmp_path / "loop" / "point"
    assert absolute(Path("/")) == Path("/")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert absolute(tmp_path / "up") == tmp_path / "real" / "point"
    monkeypatch.chdir(tmp_path)


def nobody_asks(mountpoint: Path) -> bool:
    """Only a mount of ours is asked whether it lives."""
    raise AssertionError(mountpoint)


def test_an_empty_directory_will_do(tmp_path: Path) -> None:
    """Nothing is changed in it."""
    prepare_mountpoint(tmp_path, nobody_asks)
    assert list(tmp_path.iterdir()) == []


def test_what_will_not_do(tmp_path: Path) -> None:
    """A file, a full directory, a missing one and another's mount point are each refused with their reason."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in (
        (tmp_path / "file", "is not a directory"),
        (tmp_path, "is not empty"),
        (tmp_path / "missing", "mkdir"),
        (tmp_path / ("x" * 300), "cannot be used"),
        (tmp_path / "loop", "does not exist|cannot be used"),
        (Path("/proc"), "already a mount point, of type proc"),
    ):
        with pytest.raises(SetupError, match=reason):
            prepare_mountpoint(path, nobody_asks)


def test_a_directory_that_cannot_be_listed(tmp_path: Path) -> None:
    """The reason is the system's."""
    tmp_path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)  # root may list everything
    try:
        with pytest.raises(SetupError, match="Permission denied"):
            prepare_mountpoint(tmp_path, nobody_asks)
    finally:
        os.seteuid(user)


def test_what_is_not_mounted_cannot_be_unmounted(tmp_path: Path) -> None:
    """The refusal names the path and what fusermount3 says, or that it is missing."""
    with pytest.raises(SetupError, match=f"{tmp_path.name}|not installed"):
        unmount(tmp_path)


def test_an_option_cannot_bring_another_one_in() -> None:
    """A comma in the source would start another option."""
    options = MountOptions(Path("/mnt"), "imagefs:a,allow_other", read_only=True)
    assert options.for_fuse() == {"fsname=imagefs:a_allow_other", "subtype=imagefs", "ro"}


def test_a_mount_point_called_busy_is_not_taken_for_a_busy_mount(tmp_path: Path) -> None:
    """fusermount3 names the path in what it says."""
    with pytest.raises(SetupError, match=r"could not be unmounted|not installed"):
        unmount(tmp_path / "busy")


def test_a_mount_point_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    """It is named in fusermount3's complaint."""
    path = tmp_path / os.fsdecode(b"caf\xe9")
    path.mkdir()
    with pytest.raises(SetupError, match="could not be unmounted"):
        unmount(path)
