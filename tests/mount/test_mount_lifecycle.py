"""Mounting and unmounting, in every way that people and machines do it."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import cast

import pytest
from mount_programs import (
    AS_A_CONTAINER,
    MYSELF,
    attempt,
    environment_of,
    eventually,
    refusal,
    run,
    started,
    text,
)

from imagefs.cli.umount import take_down
from imagefs.errors import SetupError
from imagefs.fuse.operations import Operations
from imagefs.fuse.session import MountOptions, Session
from imagefs.vfs.tree import Tree

MIB = 1 << 20
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_unmounts_cleanly(service, mount, number):
    """The mount goes, its process ends, and what was cached is kept."""
    image_id = service.add_synthetic("a", "toronto", MIB)
    mounted = mount()
    run("cat", mounted / "toronto/a")
    fetched = service.ledger.bytes_retrieved()
    mounted.send(number)
    assert mounted.ended()
    assert not mounted.is_mounted
    mounted.mount()
    assert run("cat", mounted / "toronto/a") == service.content(image_id).read_bytes()
    assert service.ledger.bytes_retrieved() == fetched


@pytest.mark.parametrize("number", SIGNALS)
def test_the_foreground_ends_on_a_signal(service, prepare, number):
    """With -f the command stays until a signal, and its status is then 0."""
    mounted = prepare()
    with subprocess.Popen(
        mounted.foreground_command, env=environment_of(MYSELF), stderr=subprocess.PIPE
    ) as process:
        eventually(lambda: "Mounted on" in mounted.log)
        assert text("ls", mounted.path).splitlines() == ["montreal", "roubaix", "toronto"]
        process.send_signal(number)
        assert process.wait(20) == 0
        assert process.stderr.read() == b""
    assert not mounted.is_mounted


def test_two_signals_at_once_unmount_cleanly(prepare):
    """As of a terminal that is closed: the second does not end the process before the first has unmounted."""
    mounted = prepare()
    with subprocess.Popen(mounted.foreground_command, env=environment_of(MYSELF)) as process:
        eventually(lambda: "Mounted on" in mounted.log, within_s=60)
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGHUP, signal.SIGCONT):
            process.send_signal(number)
        assert process.wait(60) == 0
    assert not mounted.is_mounted


def test_ctrl_c_while_the_mount_waits_for_the_service(service, prepare):
    """The command and what it began in the background end together, and nothing is mounted."""
    service.switches.latency_s = 600.0
    mounted = prepare()
    mounted.may_log(".")
    command = ["env", "--default-signal=INT", *mounted.command]  # whoever runs the tests may ignore it
    with subprocess.Popen(
        command, env=environment_of(MYSELF), stderr=subprocess.PIPE, process_group=0
    ) as process:
        eventually((mounted.cache_dir / "lock").exists, within_s=60)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read().strip() == b"imagefs: interrupted"
        eventually(lambda: not group_lives(process.pid), within_s=60)
    assert not mounted.is_mounted


def group_lives(group: int) -> bool:
    """Whether a process of *group* is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.root
def test_the_kernel_may_read_a_mebibyte_at_once(mount):
    """Where root can say so: FUSE's first answer, which comes later, does not take it back."""
    mounted = mount()
    device = os.stat(mounted.path).st_dev  # answered after FUSE's first request
    knob = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    assert int(knob.read_text()) == (1024 if os.access(knob, os.W_OK) else 128)


def test_a_service_manager_is_told_when_the_tree_can_be_used(service, prepare, workspace):
    """As systemd expects it of Type=notify: not before, and by the process that it started."""
    mounted = prepare()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        manager.bind(str(workspace / "notify"))
        manager.settimeout(60)
        environment = environment_of(MYSELF, NOTIFY_SOCKET=str(workspace / "notify"))
        with subprocess.Popen(mounted.foreground_command, env=environment) as process:
            told, ancillary, _, _ = manager.recvmsg(100, socket.CMSG_SPACE(12))
            assert told == b"READY=1"
            assert struct.unpack("3i", ancillary[0][2])[0] == process.pid
            assert mounted.is_mounted
            process.terminate()
            assert process.wait(60) == 0


def test_the_background_keeps_nothing_of_the_caller(service, mount):
    """The process left the caller's folder, terminal, session and standard streams."""
    mounted = mount()
    process = f"/proc/{mounted.pid}"
    assert os.readlink(f"{process}/cwd") == "/"
    assert {os.readlink(f"{process}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
    assert os.getsid(mounted.pid) == mounted.pid


def test_a_caller_without_standard_streams(prepare):
    """What is open under their numbers is not taken for them, nor closed as such."""
    mounted = prepare()
    run("sh", "-c", '"$@" <&- >&- 2>&-', "sh", *mounted.command)
    process = f"/proc/{mounted.pid}"
    assert {os.readlink(f"{process}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}
    assert text("ls", mounted.path)
    mounted.umount()


def test_a_relative_mount_point_and_files_work(service, prepare):
    """Relative paths, and links to a mount point, mean what they meant when the command was run."""
    mounted = prepare()
    folder, link = mounted.path.parent, mounted.path.with_name("link")
    link.symlink_to(mounted.path.name)
    command = [word.replace(f"{folder}/", "").replace("mnt", "link") for word in mounted.command]
    run("env", "-C", folder, *command)
    assert b"already mounted" in attempt("env", "-C", folder, *command).stderr
    assert b"no such image" in mounted.imagefs("wait", link / "toronto/a").stderr
    assert text("ls", mounted.path)
    assert (folder / "cache/lock").read_text() == f"{mounted.pid} {mounted.path}\n"
    assert mounted.imagefs("umount", link).returncode == 0
    assert not mounted.is_mounted


def test_umount_of_a_busy_mount_is_refused(service, mount):
    """An open file keeps the tree mounted, and the message says what to do."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    with (mounted / "toronto/a").open("rb"):
        done = mounted.imagefs("umount", mounted.path)
    assert done.returncode == 1
    message = done.stderr.decode()
    assert message.startswith(f"imagefs: {mounted.path} is busy")
    assert message.count("\n") == 1
    assert run("cat", mounted / "toronto/a") == b"abc"
    mounted.umount()


def test_umount_waits_for_who_only_looks(mount):
    """Whoever asks for something in the mount keeps it busy for as long as that takes."""
    mounted = mount()
    with started("sh", "-c", 'cd "$1" && echo there && exec sleep 0.6', "sh", mounted.path) as looking:
        assert looking.stdout.readline() == b"there\n"
        mounted.umount()


def test_a_lazy_umount_detaches_a_busy_mount(service, mount, capsys):
    """The tree is gone at once, and the process ends when the file is closed, which is told."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    with (mounted / "toronto/a").open("rb", buffering=0) as file:
        take_down(mounted.path, lazy=True, last_flush_s=0.1)
        assert not mounted.is_mounted
        assert "until the last file of it is closed" in capsys.readouterr().err
        assert file.read() == b"abc"
    assert mounted.ended()


def test_the_end_of_a_detached_mount_leaves_the_next_one_alone(service, mount, prepare):
    """Its process goes on while a file is open; when it ends, another mount may be where it was."""
    service.add_image("a", "toronto", b"abc")
    first, second = mount(), prepare(name="b")
    second.path = first.path
    with started("tail", "-f", first / "toronto/a") as reader:
        assert reader.stdout.read(3) == b"abc"
        run("fusermount3", "-u", "-z", first.path)
        second.mount()
        first.send(signal.SIGTERM)
        assert first.ended()
    assert second.is_mounted
    assert run("cat", second / "toronto/a") == b"abc"


@pytest.mark.root
def test_umount_of_what_a_container_has_as_well(service, mount, capsys):
    """Who has taken the tree along keeps it, and the mount's process with it; whoever unmounts it here is told."""
    mounted = mount()
    there = mounted.path.with_name("there")
    there.mkdir()
    script = 'mount --bind "$1" "$2"; echo ready; read end'
    container = [*AS_A_CONTAINER, "sh", "-c", script, "sh", mounted.path, there]
    with subprocess.Popen(container, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"ready\n"
        take_down(mounted.path, last_flush_s=0.1)
        assert not mounted.is_mounted
        assert "goes on, as the mount namespace of process" in capsys.readouterr().err
        holder.stdin.close()
    assert mounted.ended()


@pytest.mark.root
def test_a_forced_umount_of_a_busy_mount_leaves_no_dead_one(service, mount):
    """The kernel cuts the connection and keeps the mount; the mount's process, which ends, takes it down."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    with started("tail", "-f", mounted / "toronto/a") as reader:
        assert reader.stdout.read(3) == b"abc"
        assert attempt("umount", "-f", mounted.path).returncode != 0
        assert mounted.ended()
    assert not mounted.is_mounted


def test_umount_in_the_middle_of_a_transfer(service, mount):
    """Readahead that is still under way does not hold up the unmount."""
    service.switches.rate_bytes_per_s = 2 * MIB
    service.add_synthetic("a", "toronto", 64 * MIB)
    mounted = mount()
    run("head", "-c", f"{2 * MIB}", mounted / "toronto/a")
    began = time.monotonic()
    mounted.umount()
    assert time.monotonic() - began < 10


def test_a_signal_in_the_middle_of_a_read(service, mount):
    """A reader that waits gets an error, and the mount ends within ten seconds all the same."""
    service.switches.rate_bytes_per_s = MIB
    service.add_synthetic("a", "toronto", 64 * MIB)
    mounted = mount()
    command = ["cat", str(mounted / "toronto/a")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reader:
        eventually(lambda: service.ledger.bytes_retrieved() > MIB)
        mounted.send(signal.SIGTERM)
        assert mounted.ended(within_s=10)
        assert reader.wait(20) != 0
    assert not mounted.is_mounted


def test_a_reader_can_be_interrupted(service, mount):
    """A program that waits for bytes ends at once on a signal, and others go on."""
    service.add_image("b", "toronto", b"abc")
    service.switches.rate_bytes_per_s = 1000
    service.add_synthetic("a", "toronto", 64 * MIB)
    mounted = mount()
    with subprocess.Popen(["cat", str(mounted / "toronto/a")], stdout=subprocess.DEVNULL) as reader:
        eventually(lambda: service.ledger.count("retrieve") > 0)
        reader.send_signal(signal.SIGINT)
        reader.wait(10)
    assert run("cat", mounted / "toronto/b") == b"abc"


def test_fusermount_ends_the_process_too(service, mount):
    """Unmounting by other means is as good."""
    mounted = mount()
    run("fusermount3", "-u", mounted.path)
    assert mounted.ended()


def test_umount_of_what_is_no_mount(service, mount, tmp_path):
    """Only mounts of imagefs are unmounted."""
    for path in (tmp_path, "/", "/proc", tmp_path / "missing"):
        assert "is not a mount of imagefs" in refusal(*MYSELF.imagefs, "umount", path)


def test_the_service_down_at_mount_with_a_known_listing(service, prepare):
    """What was known and cached at the last mount can be used without the service."""
    service.add_image("a", "toronto", b"abc")
    mounted = prepare()
    mounted.may_log("The last known listing is shown", "cannot be|Unreachable|refused")
    mounted.mount()
    run("cat", mounted / "toronto/a")
    mounted.umount()
    service.stop()
    mounted.mount()
    assert run("cat", mounted / "toronto/a") == b"abc"
    assert text("stat", "-c", "%s", mounted / "toronto/a") == "3"


def test_the_service_is_found_again(service, prepare):
    """A mount that began without the service shows what is new once it answers."""
    service.add_image("a", "toronto", b"abc")
    service.add_image("pending", "toronto", b"abc", status="saving")
    mounted = prepare()
    mounted.may_log(".")
    mounted.mount()
    mounted.umount()
    service.stop()
    mounted.mount()
    service.add_image("b", "toronto", b"abcd")
    service.start()
    eventually((mounted / "toronto" / "b").exists, within_s=60)
    assert run("cat", mounted / "toronto/b") == b"abcd"


def test_other_programs_are_told_what_is_mounted(service, mount):
    """findmnt shows source, type and options."""
    mounted = mount("--read-only")
    source, kind, options = text("findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", mounted.path).split()
    assert (source, kind) == (f"imagefs:{service.api_id}", "fuse.imagefs")
    assert "ro" in options.split(",")


def test_mounting_again_and_again(service, mount):
    """Nothing is left of a mount that would disturb the next."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    for _ in range(5):
        mounted.remount()
        assert run("cat", mounted / "toronto/a") == b"abc"
    assert attempt("ls", mounted.path).returncode == 0


def test_mounting_on_a_mount_that_is_stuck(mount):
    """Who mounts there again is told so, instead of being held up as well."""
    mounted = mount()
    mounted.send(signal.SIGSTOP)
    try:
        done = mounted.try_mount()
        assert done.returncode == 1
        assert "does not answer" in done.stderr.decode()
        assert done.stderr.count(b"\n") == 1
        link = mounted.path.with_name("link")
        link.symlink_to(mounted / "toronto")
        for below in (mounted / "toronto", link, link / "a"):
            mounting = [below if word == str(mounted.path) else word for word in mounted.command]
            for command in (mounting, [*MYSELF.imagefs, "umount", below]):
                assert f"{below} is below the mount at {mounted.path}" in refusal(*command)
        assert mounted.imagefs("umount", "--lazy", mounted.path).returncode == 0
    finally:
        mounted.send(signal.SIGCONT)
    assert mounted.ended()
    mounted.mount()


def test_a_mount_that_came_meanwhile_is_not_hidden(mount):
    """Two mounts that begin at once both find the directory empty; the slower one is refused at the end."""
    mounted = mount()
    slower = Session(MountOptions(mounted.path, source="imagefs:slower"))
    with pytest.raises(SetupError, match="already mounted"):
        slower.mount(Operations(cast(Tree, None)))
    assert text("ls", mounted.path)
