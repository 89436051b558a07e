"""Mounts of an ordinary user, through fusermount3, and who else can see them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from mount_programs import IN_OWN_NAMESPACE, attempt, environment_of, refusal, run, text

MIB = 1 << 20


def test_an_ordinary_user_can_mount_and_read(service, mount, ordinary):
    """No right is needed but that to use FUSE."""
    image_id = service.add_synthetic("a", "toronto", 3 * MIB)
    mounted = mount(person=ordinary)
    file = mounted / "toronto/a"
    assert run("cat", file, person=ordinary) == service.content(image_id).read_bytes()
    assert text("stat", "-c", "%u %g %a", file, person=ordinary) == f"{ordinary.uid} {ordinary.gid} 444"
    assert mounted.xattr(file, "id") == image_id
    mounted.umount()
    assert not mounted.is_mounted


def test_an_ordinary_user_can_unmount_with_fusermount(service, mount, ordinary):
    """As with any FUSE file system."""
    mounted = mount(person=ordinary)
    run("fusermount3", "-u", mounted.path, person=ordinary)
    assert mounted.ended()


def test_an_ordinary_users_cache_is_their_own(service, mount, ordinary):
    """Cache and log belong to the user, and are closed to others."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount(person=ordinary)
    run("cat", mounted / "toronto/a", person=ordinary)
    mounted.umount()
    for path in (mounted.cache_dir, mounted.log_file, *mounted.cache_dir.rglob("*")):
        status = path.stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode) & 0o077) == (ordinary.uid, 0), path


def test_an_ordinary_user_cannot_open_a_pending_image(service, mount, ordinary):
    """It is EAGAIN for them, too, and not a question of permission."""
    service.add_image("a", "toronto", b"abc", status="saving")
    mounted = mount(person=ordinary)
    assert "Resource temporarily unavailable" in refusal("cat", mounted / "toronto/a", person=ordinary)


def test_an_ordinary_users_dead_mount_is_cleared(service, mount, ordinary):
    """After kill -9 the user can mount again, without help."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount(person=ordinary)
    run("ls", "-lR", mounted.path, person=ordinary)
    mounted.kill()
    mounted.mount()
    assert run("cat", mounted / "toronto/a", person=ordinary) == b"abc"


@pytest.mark.root
def test_not_even_root_sees_an_ordinary_users_mount(service, mount, ordinary):
    """FUSE's own rule holds unless --allow-other is given."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount(person=ordinary)
    assert "Permission denied" in refusal("ls", mounted.path)
    assert "Permission denied" in refusal("cat", mounted / "toronto/a")


@pytest.mark.root
def test_root_does_not_take_a_live_mount_of_another_for_a_dead_one(service, mount, prepare, ordinary):
    """That root may not look into it does not mean that it can be cleared away."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount(person=ordinary)
    own = prepare(name="b")
    done = own.imagefs("mount", mounted.path, *own.foreground_command[-11:-1])
    assert done.returncode == 1
    assert b"already mounted" in done.stderr
    assert run("cat", mounted / "toronto/a", person=ordinary) == b"abc"


@pytest.mark.root
def test_others_see_nothing_of_roots_mount(service, mount, ordinary):
    """Without --allow-other an ordinary user is kept out."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    assert "Permission denied" in refusal("ls", mounted.path, person=ordinary)


@pytest.mark.root
def test_others_can_read_with_allow_other(service, mount, ordinary):
    """With --allow-other the file modes decide."""
    service.add_image("a", "toronto", b"abc")
    service.add_image("pending", "toronto", b"abc", status="saving")
    mounted = mount("--allow-other")
    assert run("cat", mounted / "toronto/a", person=ordinary) == b"abc"
    assert "only who mounted it" in refusal(*ordinary.imagefs, "warm", mounted / "toronto/a", person=ordinary)
    assert "Permission denied" in refusal("cat", mounted / "toronto/pending", person=ordinary)
    mounted.remount("--umask", "007")
    assert "Permission denied" in refusal("cat", mounted / "toronto/a", person=ordinary)


@pytest.mark.root
def test_others_cannot_change_what_they_may_read(service, mount, ordinary):
    """With --allow-other the kernel holds others to the file modes, before imagefs is asked."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount("--allow-other")
    for command in (
        ("rm", "-f", mounted / "toronto/a"),
        ("mv", mounted / "toronto/a", mounted / "montreal/a"),
        ("cp", mounted / "toronto/a", mounted / "montreal/a"),
        ("sh", "-c", f"echo https://example.org/b.iso > {mounted / 'toronto/.fetch'}"),
    ):
        assert "Permission denied" in refusal(*command, person=ordinary)
    assert {call.action for call in service.ledger.calls} <= {"list", "details"}
    assert [image.name for image in service.images()] == ["a"]


@pytest.mark.root
def test_an_ordinary_users_mount_is_open_to_all_with_the_administrators_leave(
    service, prepare, ordinary, workspace
):
    """With user_allow_other and --allow-other, root and a third user read it by its modes, and cannot change it."""
    service.add_image("a", "toronto", b"abc")
    mounted = prepare("--allow-other", person=ordinary)
    configuration = workspace / "fuse.conf"
    configuration.write_text("user_allow_other\n")
    script = """
        mount --bind "$1" /etc/fuse.conf; mountpoint=$2; shift 2
        "$@" >&2 || exit 99
        cat "$mountpoint/toronto/a" && echo
        third="setpriv --reuid=12345 --regid=12345 --clear-groups"
        $third cat "$mountpoint/toronto/a" && echo
        $third rm -f "$mountpoint/toronto/a" 2>&1 | grep -o "Permission denied"
        fusermount3 -u "$mountpoint"
    """
    done = attempt(
        *IN_OWN_NAMESPACE,
        *("bash", "-c", script, "bash", configuration, mounted.path),
        *mounted.foreground_command[:-1],
        environment=environment_of(ordinary, HOME=str(mounted.path.parent)),
    )
    run("flock", mounted.cache_dir / "lock", "true")  # it has ended, too
    assert done.stdout.decode().splitlines() == ["abc", "abc", "Permission denied"], done.stderr
    assert service.ledger.count("delete") == 0


def test_allow_other_needs_the_administrators_leave(service, prepare, ordinary):
    """An ordinary user is told which line root would have to add."""
    mounted = prepare("--allow-other", person=ordinary)
    if ordinary.uid == 0 or "\nuser_allow_other" in attempt("cat", "/etc/fuse.conf").stdout.decode():
        mounted.mount()
        return
    done = mounted.try_mount()
    assert done.returncode == 1
    assert b"user_allow_other" in done.stderr
    assert not mounted.is_mounted


def test_a_cache_directory_that_the_user_cannot_write(service, prepare, ordinary):
    """The line names it, and nothing is mounted."""
    mounted = prepare(person=ordinary, cache_dir=Path("/usr/imagefs-test-cache"))
    mounted.may_log("cannot be opened")
    done = mounted.try_mount()
    assert done.returncode == 1
    assert b"/usr/imagefs-test-cache" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert not mounted.is_mounted
