"""mount(8) and lines of fstab, with the helper where mount(8) looks for it: in a mount namespace of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mount_programs import IN_OWN_NAMESPACE, MYSELF, Person, attempt, eventually, refusal, run, text

from imagefs.emulator import Emulator

pytestmark = pytest.mark.root

HELPER = Path(MYSELF.imagefs[0]).with_name("mount.fuse.imagefs")

MACHINE = """
set -e
mkdir "$1/sbin" "$1/mnt"
mount --bind /usr/sbin "$1/sbin"
mount -t tmpfs tmpfs /usr/sbin
ln -s "$1"/sbin/* /usr/sbin/
ln -s "$2" /usr/sbin/mount.fuse.imagefs
echo ready
read end
"""
"""Ends with its standard input."""


@dataclass(frozen=True)
class System:
    """A machine with the helper installed; ``root`` is who runs programs there."""

    root: Person
    folder: Path
    service: Emulator

    @property
    def mountpoint(self) -> Path:
        return self.folder / "mnt"

    @property
    def options(self) -> str:
        """What tells the account of the service from the one that this machine may have."""
        return (
            f"credentials={self.service.credentials_file},api_url={self.service.api_url},"
            f"cache_dir={self.folder}/cache,log_file={self.folder}/log"
        )

    def run(self, *command: str | Path) -> str:
        return text(*command, person=self.root)

    def refusal(self, *command: str | Path) -> str:
        return refusal(*command, person=self.root)

    def umount(self) -> None:
        """Unmount with umount(8); the mount's process must end by itself."""
        pid = self.run(
            "getfattr", "--only-values", "--absolute-names", "-n", "user.imagefs.pid", self.mountpoint
        )
        self.run("umount", self.mountpoint)
        eventually(lambda: not Path("/proc", pid).exists(), within_s=60)


@pytest.fixture
def system(service: Emulator, workspace: Path) -> Iterator[System]:
    """The machine, in a mount namespace that goes away with all that is mounted in it."""
    command = [*IN_OWN_NAMESPACE, "sh", "-c", MACHINE, "sh", workspace, HELPER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"ready\n"
        enter = ("nsenter", f"--target={holder.pid}", "--mount", "--root", "--wd", "--")
        system = System(Person(os.getuid(), os.getgid(), MYSELF.imagefs, enter), workspace, service)
        yield system
        attempt("umount", "--lazy", system.mountpoint, person=system.root)
        holder.stdin.close()
        holder.wait(60)


def test_mount_by_type_with_options(system):
    """mount(8) finds the helper by the type; every option of imagefs is one of mount(8), by its name."""
    system.service.add_image("a", "toronto", b"abc")
    system.run(
        *("mount", "-t", "fuse.imagefs", "images", system.mountpoint, "-o"),
        f"{system.options},ro,allow_other,uid=1234,gid=4321,umask=027,cache_size=64M,no_delete,nosuid,noatime",
    )
    file = system.mountpoint / "toronto/a"
    assert system.run("cat", file) == "abc"
    assert system.run("stat", "-c", "%u %g %a", file) == "1234 4321 440"
    assert "Read-only" in system.refusal("rm", "-f", file)
    options = system.run("findmnt", "-n", "-o", "FSTYPE,OPTIONS", system.mountpoint)
    assert options.startswith("fuse.imagefs ro,")
    assert "allow_other" in options
    system.umount()


def test_a_line_of_fstab(system):
    """With what such lines carry for mount(8), systemd and the network; mounted by its mount point."""
    system.service.add_image("a", "toronto", b"abc")
    fstab = system.folder / "fstab"
    more = "_netdev,noauto,nofail,user,x-systemd.automount,x-systemd.idle-timeout=60,x-gvfs-hide,comment=mine"
    fstab.write_text(
        f"imagefs:{system.service.api_id} {system.mountpoint} fuse.imagefs {system.options},{more} 0 0\n"
    )
    system.run("mount", "--fstab", fstab, system.mountpoint)
    assert system.run("cat", system.mountpoint / "toronto/a") == "abc"
    system.umount()


def test_mount_all_sees_what_is_mounted(system):
    """With the account as the source, a second `mount -a` leaves the first one's mount alone."""
    fstab = system.folder / "fstab"
    fstab.write_text(
        f"imagefs:{system.service.api_id} {system.mountpoint} fuse.imagefs {system.options} 0 0\n"
    )
    for _ in range(2):
        system.run("mount", "--fstab", fstab, "--all")
        assert (
            system.run("findmnt", "-n", "-o", "SOURCE", system.mountpoint)
            == f"imagefs:{system.service.api_id}"
        )
    system.umount()


def test_what_mount_cannot_do(system):
    """One line that says why, and the status that mount(8) documents for it."""
    for options, status, reason in (
        (f"{system.options},cache_sise=3", 1, "'cache_sise=3' is not known"),
        (f"{system.options},remount", 1, "'remount' is not known"),
        (f"{system.options},credentials=/missing", 32, "/missing"),
    ):
        done = attempt(
            *("mount", "-t", "fuse.imagefs", "images", system.mountpoint, "-o", options), person=system.root
        )
        assert done.returncode == status
        assert reason in done.stderr.decode()
        assert done.stderr.count(b"\n") == 1
    assert attempt(HELPER, person=system.root).returncode == 1
    assert (
        attempt("mount", "--fake", "-t", "fuse.imagefs", "x", "/nowhere", person=system.root).returncode == 0
    )
    assert run(HELPER, "--help").startswith(b"usage: mount.fuse.imagefs")
    assert attempt("findmnt", system.mountpoint, person=system.root).returncode == 1


def test_roots_mounts_are_the_machines(system):
    """The configuration is /etc/imagefs, unless the environment says otherwise; no home is needed."""
    for environment, folder in (((), "/etc"), (("XDG_CONFIG_HOME=/elsewhere",), "/elsewhere")):
        done = attempt("env", "-i", *environment, HELPER, "images", system.mountpoint, person=system.root)
        assert done.returncode == 32
        assert f"{folder}/imagefs/" in done.stderr.decode()
