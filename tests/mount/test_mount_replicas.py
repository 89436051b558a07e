"""Copies, moves and deletions by name: what the account sees of them, and how they fail."""

from __future__ import annotations

import os
import signal
from typing import Final

import pytest
from mount_programs import attempt, eventually, refusal, run, text
from test_mount_interrupts import is_stopped, started

from imagefs.emulator import Fault

MIB = 1 << 20
CONTENT = bytes(range(256)) * 1000


@pytest.fixture(autouse=True)
def _quick(service):
    """Replicas are ready after a moment."""
    service.switches.saving_s = 0.2


def names(service, region):
    """The names of the account's images in a region."""
    return sorted(image.name for image in service.images() if image.region == region)


def outcomes(service, action):
    """What became of all calls of *action*."""
    return [call.outcome for call in service.ledger.calls if call.action == action]


def test_a_region_is_copied_with_all_its_images(service, mount):
    """``cp -r toronto/. montreal/`` is a replica of each; the control file's comments do nothing."""
    wanted = [f"{number}.img" for number in range(3)]
    for name in wanted:
        service.add_image(name, "toronto", CONTENT + name.encode())
    mounted = mount()
    run("cp", "-r", f"{mounted / 'toronto'}/.", mounted / "montreal")
    assert sorted(os.listdir(mounted / "montreal")) == [".fetch", *wanted]
    assert names(service, "montreal") == names(service, "toronto") == wanted
    assert outcomes(service, "replicate") == ["ok"] * 3
    assert outcomes(service, "fetch") == outcomes(service, "rename") == []
    assert service.ledger.bytes_retrieved() == 0


def test_a_region_is_emptied_and_stays(service, mount):
    """``rm -rf montreal`` deletes its images; the directory and its control file refuse to go."""
    for name in ("a", "b"):
        service.add_image(name, "montreal", CONTENT)
    service.add_image("template", "montreal", CONTENT, public=True)
    service.add_image("c", "toronto", CONTENT)
    mounted = mount()
    mounted.may_log("permission denied")
    assert "Operation not permitted" in refusal("rm", "-rf", mounted / "montreal")
    assert names(service, "montreal") == ["template"]
    assert names(service, "toronto") == ["c"]
    assert sorted(os.listdir(mounted / "montreal")) == [".fetch", "template"]


def test_mv_within_a_region_is_one_rename(service, mount):
    """Nothing else is asked of the service, and the file is the same one."""
    image_id = service.add_image("a", "toronto", CONTENT)
    mounted = mount()
    inode = (mounted / "toronto/a").stat().st_ino
    run("mv", mounted / "toronto/a", mounted / "toronto/50% of b")
    assert service.image(image_id).name == "50% of b"
    assert (mounted / "toronto/50% of b").stat().st_ino == inode
    assert outcomes(service, "rename") == ["ok"]
    assert {call.action for call in service.ledger.calls} == {"list", "details", "rename"}


def test_the_replica_of_what_was_just_renamed_needs_no_renaming(service, mount):
    """It begins with the name that its source has by now, whatever the last listing says."""
    service.add_image("a", "toronto", CONTENT)
    mounted = mount()
    run("mv", mounted / "toronto/a", mounted / "toronto/b")
    run("cp", mounted / "toronto/b", mounted / "montreal/b")
    run("sync", mounted / "montreal/b")
    assert names(service, "montreal") == names(service, "toronto") == ["b"]
    assert outcomes(service, "rename") == ["ok"]


def test_rm_is_one_deletion(service, mount):
    """Only that image goes."""
    service.add_image("a", "toronto", CONTENT)
    service.add_image("b", "toronto", CONTENT)
    mounted = mount()
    run("rm", mounted / "toronto/a")
    assert names(service, "toronto") == ["b"]
    assert text("ls", mounted / "toronto") == "b"
    assert outcomes(service, "delete") == ["ok"]


def test_qemu_img_writes_in_any_order_and_leaves_holes(service, mount):
    """It gives the file its size first, and writes no zeros: the bytes are those of the image all the same."""
    content = os.urandom(1 << 20) + bytes(3 << 20) + os.urandom(512)
    service.add_image("a", "toronto", content)
    mounted = mount()
    run("qemu-img", "convert", "-W", "-f", "raw", "-O", "raw", mounted / "toronto/a", mounted / "montreal/b")
    run("sync", mounted / "montreal/b")
    assert names(service, "montreal") == ["b"]
    assert outcomes(service, "replicate") == ["ok"]
    assert run("cat", mounted / "montreal/b") == content


def test_a_copy_of_gigabytes_is_one_replica(service, mount):
    """The kernel sends it in pieces of at most 4 GiB - 4096; none of them costs a byte."""
    size = str(9 << 30)
    service.add_image("a", "toronto", b"a few bytes", size=size)
    service.faults.add(Fault("replica_size", value=size))
    mounted = mount()
    run("cp", mounted / "toronto/a", mounted / "montreal/a")
    run("sync", mounted / "montreal/a")
    assert text("stat", "-c", "%s", mounted / "montreal/a") == size
    assert service.ledger.count("replicate") == 1
    assert service.ledger.count("retrieve") == 0


PIECEWISE: Final = """
import os, sys
old, new = sys.argv[2:]
source = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(source).st_size
targets = [os.open(old, os.O_WRONLY | os.O_CREAT), os.open(old, os.O_WRONLY)]
pieces = [(offset, min(70_000, size - offset)) for offset in range(0, size, 70_000)]
def copy(number, offset, length):
    while length:
        done = os.copy_file_range(source, targets[number % 2], length, offset, offset)
        offset, length = offset + done, length - done
for number, piece in enumerate(reversed(pieces[1:])):
    copy(number, *piece)
    if number == 1:
        (os.unlink if new == "-" else lambda name: os.rename(name, new))(old)
copy(0, *pieces[-1])
copy(0, *pieces[0])
for target in targets:
    os.close(target)
"""
"""Copies in pieces from the end on, one of them twice, through two descriptors; meanwhile the target is renamed, or
removed where the new name is ``-``."""


def test_pieces_make_one_replica_whatever_becomes_of_the_name(service, mount):
    """In any order, some twice, by several handles, under another name than it began with."""
    service.add_image("a", "toronto", CONTENT)
    mounted = mount()
    old, new = mounted / "montreal/old", mounted / "montreal/new"
    run("python3", "-c", PIECEWISE, mounted / "toronto/a", old, new)
    run("sync", new)
    assert names(service, "montreal") == ["new"]
    assert run("cat", new) == CONTENT
    assert outcomes(service, "replicate") == ["ok"]


def test_pieces_of_a_file_that_is_removed_make_none(service, mount):
    """Whoever fills it is told so."""
    service.add_image("a", "toronto", CONTENT)
    mounted = mount()
    assert "No such file" in refusal(
        "python3", "-c", PIECEWISE, mounted / "toronto/a", mounted / "montreal/old", "-"
    )
    assert os.listdir(mounted / "montreal") == [".fetch"]
    assert outcomes(service, "replicate") == []


def test_a_copy_that_is_stopped_and_goes_on_is_one_replica(service, mount):
    """Ctrl-Z interrupts its request, which the kernel sends again after fg."""
    service.add_image("a", "toronto", CONTENT)
    service.faults.add(Fault("delayed", action="replicate", value=1.5))
    mounted = mount()
    with started("cp", mounted / "toronto/a", mounted / "montreal/a") as copying:
        eventually(lambda: service.faults.struck["delayed"] > 0)
        copying.send_signal(signal.SIGSTOP)
        eventually(lambda: is_stopped(copying) or copying.poll() is not None)
        copying.send_signal(signal.SIGCONT)
        assert copying.wait(30) == 0
    run("sync", mounted / "montreal/a")
    assert service.ledger.count("replicate") == 1
    assert names(service, "montreal") == names(service, "toronto") == ["a"]


def test_two_mounts_that_move_one_image_lose_nothing(service, mount):
    """Each has its replica made and checked before the source goes, whatever the other one does."""
    service.switches.saving_s = 600.0
    service.add_image("a", "toronto", CONTENT)
    service.add_image("b", "toronto", CONTENT[1:])
    one, other = mount(), mount(name="b")
    for mounted in (one, other):
        mounted.may_log("is gone|is not deleted|unknown|invalid image")
    run("ls", "-l", other / "toronto")
    run("mv", one / "toronto/a", one / "montreal/a")
    run("mv", other / "toronto/a", other / "roubaix/a")
    run("mv", one / "toronto/b", one / "montreal/b")
    run("mv", other / "toronto/b", other / "toronto/renamed")
    assert names(service, "toronto") == ["a", "renamed"]
    for image in service.images():
        service.set_status(image.image_id, "active")
    eventually(lambda: names(service, "toronto") == [], within_s=60)
    assert names(service, "montreal") == ["a", "b"]
    assert names(service, "roubaix") == ["a"]
    assert {image.status for image in service.images()} == {"active"}


@pytest.mark.parametrize("words", ["permission denied", "invalid image"])
@pytest.mark.parametrize("command", [["rm"], ["mv", "-t", "{montreal}"]], ids=["rm", "mv"])
def test_a_public_template_stays(service, mount, command, words):
    """It is not the account's to delete, however that is said; a move leaves its replica beside it, and says so."""
    image_id = service.add_image("template", "toronto", CONTENT, public=True)
    service.faults.add(Fault("refused", action="delete", value=words, times=None))
    mounted = mount()
    mounted.may_log(words)
    done = attempt(
        *(word.format(montreal=mounted / "montreal") for word in command), mounted / "toronto/template"
    )
    if command == ["rm"]:
        assert done.returncode != 0
        assert b"Operation not permitted" in done.stderr
    eventually(lambda: outcomes(service, "delete") != [] and (mounted / "toronto/template").exists())
    assert service.image(image_id).status == "active"
    if command != ["rm"]:
        eventually(lambda: words in mounted.xattr(mounted / "toronto/template", "error"))


def test_no_delete_refuses_what_would_delete(service, mount):
    """A mount with --no-delete can copy, and can neither remove nor move away."""
    service.add_image("a", "toronto", CONTENT)
    mounted = mount("--no-delete")
    assert "Operation not permitted" in refusal("rm", mounted / "toronto/a")
    assert "Operation not permitted" in refusal("mv", mounted / "toronto/a", mounted / "montreal/a")
    run("cp", mounted / "toronto/a", mounted / "montreal/a")
    assert names(service, "toronto") == names(service, "montreal") == ["a"]
    assert outcomes(service, "delete") == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("replica_killed"), "could not make"),
        (Fault("replica_checksum", value="f" * 32), "checksum"),
        (Fault("replica_size", value="12"), "size"),
    ],
    ids=lambda part: getattr(part, "kind", None),
)
def test_a_move_whose_replica_fails_is_taken_back(service, mount, fault, reason):
    """The source is hidden at once, is never deleted, and comes back with the reason."""
    image_id = service.add_image("a", "toronto", CONTENT)
    service.faults.add(fault)
    mounted = mount()
    mounted.may_log("could not make image", "is not deleted", "another size or checksum")
    run("mv", mounted / "toronto/a", mounted / "montreal/b")
    assert text("ls", mounted / "toronto") == ""
    eventually(lambda: os.listdir(mounted / "toronto") == [".fetch", "a"])
    assert service.image(image_id).status == "active"
    assert outcomes(service, "delete") == []
    for file in (mounted / "toronto/a", mounted / "montreal/b"):
        assert reason in mounted.xattr(file, "error")
    assert run("cat", mounted / "toronto/a") == CONTENT


def test_a_move_is_answered_before_its_replica_is_made(service, mount):
    """Both regions can be used meanwhile; who removes the replica has the source back."""
    service.switches.saving_s = 600.0
    service.add_image("a", "toronto", CONTENT)
    for region in ("toronto", "montreal"):
        service.add_image("other", region, CONTENT)
    mounted = mount()
    mounted.may_log("stays, as its replica was deleted")
    run("mv", mounted / "toronto/a", mounted / "montreal/b")
    assert text("ls", mounted / "toronto") == "other"
    for command in (["cat"], ["mv", "-t", mounted / "roubaix"]):
        assert "Resource temporarily unavailable" in refusal(*command, mounted / "montreal/b")
    eventually(  # the kernel keeps the source's mode for a moment
        lambda: text("stat", "-c", "%04a %s", mounted / "montreal/b") == f"0000 {len(CONTENT)}"
    )
    for region in ("toronto", "montreal"):
        run("mv", mounted / region / "other", mounted / region / "renamed")
        assert run("cat", mounted / region / "renamed") == CONTENT
    assert outcomes(service, "delete") == []
    run("rm", mounted / "montreal/b")
    eventually(lambda: text("ls", mounted / "toronto").split() == ["a", "renamed"])
    assert names(service, "toronto") == ["a", "renamed"]
    assert names(service, "montreal") == ["renamed"]


def test_a_replica_can_be_renamed_and_removed_while_it_is_made(service, mount):
    """It is there at once under its name, without permissions, and with its size."""
    service.switches.saving_s = 60.0
    source_id = service.add_image("a", "toronto", CONTENT)
    mounted = mount()
    run("cp", mounted / "toronto/a", mounted / "montreal/b")
    assert text("stat", "-c", "%04a %s", mounted / "montreal/b") == f"0000 {len(CONTENT)}"
    assert "Resource temporarily unavailable" in refusal("cat", mounted / "montreal/b")
    run("mv", mounted / "montreal/b", mounted / "montreal/c")
    assert text("ls", mounted / "montreal") == "c"
    eventually(lambda: names(service, "montreal") == ["c"])
    run("rm", mounted / "montreal/c")
    assert text("ls", mounted / "montreal") == ""
    eventually(lambda: names(service, "montreal") == [])
    assert service.image(source_id).status == "active"


def test_a_source_that_is_removed_lives_until_its_replica_is_made(service, mount):
    """rm is answered at once, and carried out when nothing needs the image any more."""
    source_id = service.add_image("a", "toronto", CONTENT)
    mounted = mount()
    run("cp", mounted / "toronto/a", mounted / "montreal/a")
    run("rm", mounted / "toronto/a")
    assert text("ls", mounted / "toronto") == ""
    assert service.image(source_id).status == "active"
    eventually(lambda: names(service, "toronto") == [])
    assert [(image.region, image.status) for image in service.images()] == [("montreal", "active")]


def test_sync_waits_until_the_image_is_active(service, mount):
    """``cp`` returns at once, ``sync FILE`` when the image can be used."""
    service.add_image("a", "toronto", CONTENT)
    mounted = mount()
    run("cp", mounted / "toronto/a", mounted / "montreal/a")
    run("sync", mounted / "montreal/a")
    assert {image.status for image in service.images()} == {"active"}
    assert run("cat", mounted / "montreal/a") == CONTENT


def test_sync_of_an_image_that_fails_says_so(service, mount):
    """An input/output error: there is no image to wait for any more."""
    service.add_image("a", "toronto", CONTENT)
    service.faults.add(Fault("replica_killed"))
    mounted = mount()
    mounted.may_log("could not make image")
    run("cp", mounted / "toronto/a", mounted / "montreal/a")
    assert "Input/output error" in refusal("sync", mounted / "montreal/a")


def test_ctrl_c_ends_sync(service, mount):
    """The image goes on being made; others are served meanwhile."""
    service.switches.saving_s = 60.0
    service.add_image("a", "toronto", CONTENT)
    mounted = mount()
    run("cp", mounted / "toronto/a", mounted / "montreal/a")
    with started("sync", mounted / "montreal/a") as waiting:
        assert run("cat", mounted / "toronto/a") == CONTENT
        assert waiting.poll() is None
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(5) == -signal.SIGINT
    assert text("ls", mounted / "montreal") == "a"


def test_who_reads_an_image_that_is_moved_goes_on(service, mount):
    """From the source as long as it is there, then from the replica, which has the same bytes."""
    image_id = service.add_synthetic("a", "toronto", 8 * MIB)
    content = service.content(image_id).read_bytes()
    mounted = mount()
    with (mounted / "toronto/a").open("rb", buffering=0) as reader:
        assert reader.read(4096) == content[:4096]
        run("mv", mounted / "toronto/a", mounted / "montreal/a")
        assert os.pread(reader.fileno(), 4096, 4 * MIB) == content[4 * MIB : 4 * MIB + 4096]
        eventually(lambda: [image.region for image in service.images()] == ["montreal"], within_s=60)
        assert reader.read() == content[4096:]


def test_a_replica_that_is_unlike_its_source_serves_none_of_its_readers(service, mount):
    """A move that failed has made nobody of it: whoever has the source open is told when that goes later on."""
    image_id = service.add_synthetic("a", "toronto", 16 * MIB, seed=1)
    mounted = mount()
    mounted.may_log("replica|another size or checksum|invalid image|gone from the account")
    service.faults.add(Fault("replica_checksum", times=None))
    with (mounted / "toronto/a").open("rb", buffering=0) as reader:
        reader.read(4096)
        run("mv", mounted / "toronto/a", mounted / "montreal/a")
        eventually((mounted / "toronto/a").exists, within_s=60)
        (replica,) = (image for image in service.images() if image.region == "montreal")
        service.change_content(replica.image_id, bytes(16 * MIB))
        service.remove_image(image_id)
        with pytest.raises(OSError, match="Stale file handle"):
            os.pread(reader.fileno(), 4096, 12 * MIB)


def test_open_readers_keep_what_is_cached(service, mount):
    """After rm, whoever has the image open can still read it, as on any file system."""
    service.add_image("a", "toronto", CONTENT)
    mounted = mount()
    file = mounted / "toronto/a"
    assert run("cat", file) == CONTENT
    with file.open("rb") as reader:
        run("rm", file)
        assert os.fstat(reader.fileno()).st_size == len(CONTENT)
        assert reader.read() == CONTENT
    assert not file.exists()
