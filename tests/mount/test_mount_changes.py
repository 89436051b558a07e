"""What changes through a mount, what cannot, and how that is said."""

from __future__ import annotations

import os
from typing import Final

import pytest
from mount_programs import eventually, refusal, run, text

CHANGES = {
    "touch": ["touch", "{region}/new"],
    "redirection": ["sh", "-c", "echo x > {region}/new"],
    "rm": ["rm", "-f", "{region}/a"],
    "mv": ["mv", "{region}/a", "{region}/b"],
    "mv between regions": ["mv", "{region}/a", "{root}/montreal/a"],
    "cp into": ["cp", "/etc/passwd", "{region}/new"],
    "cp between regions": ["cp", "{region}/a", "{root}/montreal/a"],
    "ln": ["ln", "{region}/a", "{root}/montreal/a"],
    "append": ["sh", "-c", "echo x >> {region}/a"],
    "truncate": ["truncate", "-s", "0", "{region}/a"],
    "overwrite": ["cp", "/etc/passwd", "{region}/a"],
    "touch of an image": ["touch", "-d", "2001-02-03", "{region}/a"],
    "chmod": ["chmod", "600", "{region}/a"],
    "fetch": ["sh", "-c", "echo https://example.org/a.iso > {region}/.fetch"],
    "rm .fetch": ["rm", "-f", "{region}/.fetch"],
    "mkdir": ["mkdir", "{region}/folder"],
    "mkdir in the root": ["mkdir", "{root}/folder"],
    "file in the root": ["cp", "/etc/passwd", "{root}/file"],
    "rmdir": ["rmdir", "{root}/montreal"],
    "mv of a region": ["mv", "{root}/montreal", "{root}/other"],
    "ln -s": ["ln", "-s", "a", "{region}/link"],
    "ln within the region": ["ln", "{region}/a", "{region}/b"],
    "cp -s": ["cp", "-s", "{region}/a", "{root}/montreal/a"],
    "cp -r of a region": ["cp", "-r", "{region}", "{root}/montreal"],
    "dd within the region": ["dd", "if={region}/a", "of={region}/b"],
    "mkfifo": ["mkfifo", "{region}/fifo"],
}

IMPOSSIBLE = {
    "append": "Read-only file system",
    "truncate": "Read-only file system",
    "overwrite": "File exists",
    "cp into": "Operation not supported",
    "rm .fetch": "Operation not permitted",
    "mkdir": "Operation not permitted",
    "mkdir in the root": "Operation not permitted",
    "file in the root": "Operation not permitted",
    "rmdir": "Operation not permitted",
    "mv of a region": "Operation not permitted",
    "ln -s": "Operation not permitted",
    "ln within the region": "Operation not permitted",
    "cp -s": "Operation not permitted",
    "cp -r of a region": "Operation not permitted",
    "dd within the region": "Operation not supported",
    "mkfifo": "Operation not permitted",
}


def command_of(name, mounted):
    """The words of one of CHANGES."""
    return [word.format(root=mounted.path, region=mounted / "toronto") for word in CHANGES[name]]


@pytest.mark.parametrize("name", CHANGES)
def test_a_read_only_mount_refuses_every_change(service, mount, name):
    """EROFS, before anything is asked of the service."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount("--read-only")
    assert "Read-only file system" in refusal(*command_of(name, mounted))
    assert {call.action for call in service.ledger.calls} <= {"list", "details"}
    assert run("cat", mounted / "toronto/a") == b"abc"


@pytest.mark.parametrize("size_bytes", [0, 1 << 20])
def test_a_file_without_content_is_not_taken_from_who_moves_it(mount, workspace, size_bytes):
    """Neither an empty one nor one that is a single hole: no image has that, and mv fails and keeps its source."""
    source = workspace / "new.img"
    source.touch()
    os.truncate(source, size_bytes)
    assert "Operation not supported" in refusal("mv", source, mount() / "toronto/new.img")
    assert source.stat().st_size == size_bytes


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_changed_says_why_and_leaves_nothing(service, mount, name):
    """Images are not written to, the structure stays, and the service is asked for nothing."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    assert IMPOSSIBLE[name] in refusal(*command_of(name, mounted))
    assert {call.action for call in service.ledger.calls} <= {"list", "details", "retrieve"}
    assert run("cat", mounted / "toronto/a") == b"abc"
    assert os.listdir(mounted / "toronto") == [".fetch", "a"]


def test_an_image_is_renamed(service, mount):
    """In the account, under the id that it had; never onto another."""
    image_id = service.add_image("a", "toronto", b"abc")
    service.add_image("other", "toronto", b"other")
    mounted = mount()
    run("mv", mounted / "toronto/a", mounted / "toronto/b")
    assert text("ls", mounted / "toronto").splitlines() == ["b", "other"]
    assert mounted.xattr(mounted / "toronto/b", "id") == image_id
    assert run("cat", mounted / "toronto/b") == b"abc"
    rename = "import os, sys; os.rename(sys.argv[1], sys.argv[2])"
    assert "FileExistsError" in refusal(
        "python3", "-c", rename, mounted / "toronto/b", mounted / "toronto/other"
    )
    assert run("cat", mounted / "toronto/other") == b"other"
    assert service.ledger.count("rename") == 1


def test_an_image_is_deleted(service, mount):
    """Its name is gone at once, and after a remount; --no-delete keeps it."""
    service.add_image("a", "toronto", b"abc")
    service.add_image("b", "toronto", b"abc")
    mounted = mount()
    run("rm", mounted / "toronto/a")
    assert text("ls", mounted / "toronto") == "b"
    mounted.remount("--no-delete")
    assert text("ls", mounted / "toronto") == "b"
    assert "Operation not permitted" in refusal("rm", mounted / "toronto/b")
    assert service.ledger.count("delete") == 1


def test_a_copy_to_another_region_is_a_replica(service, mount):
    """It shows at once, becomes readable, and no content passed this machine on the way."""
    service.switches.saving_s = 0.2
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    run("cp", mounted / "toronto/a", mounted / "montreal/b")
    assert text("ls", mounted / "montreal") == "b"
    run("sync", mounted / "montreal/b")
    assert run("cat", mounted / "montreal/b") == b"abc"
    assert service.ledger.count("replicate") == 1


def test_a_copy_within_a_region_is_not_possible(service, mount):
    """The service cannot copy there; nothing is left."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    assert "Operation not supported" in refusal("cp", mounted / "toronto/a", mounted / "toronto/b")
    assert text("ls", mounted / "toronto") == "a"


def test_an_empty_file_goes_after_a_while(service, mount):
    """Some programs create first and open again to write; what stays empty is no image."""
    mounted = mount()
    run("touch", mounted / "toronto/new")
    assert text("ls", mounted / "toronto") == "new"
    eventually(lambda: text("ls", mounted / "toronto") == "")
    assert service.ledger.count() == service.ledger.count("list")


def test_who_only_reads_a_file_does_not_end_its_copy(service, mount):
    """A file manager may look into a file that is still being written."""
    content = bytes(range(256)) * 4096
    service.switches.saving_s = 0.2
    service.add_image("a", "toronto", content)
    mounted = mount()
    with open(mounted / "montreal/a", "wb", buffering=0) as target:
        target.write(content[:65536])
        assert (mounted / "montreal/a").read_bytes() == content[:65536]
        for offset in range(65536, len(content), 65536):
            target.write(content[offset : offset + 65536])
    run("sync", mounted / "montreal/a")
    assert run("cat", mounted / "montreal/a") == content


FORKING: Final = """
import os, subprocess, sys
content = open(sys.argv[1], "rb").read()
half = len(content) // 2
target = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_EXCL)
os.set_inheritable(target, True)
os.write(target, content[:half])
child = os.fork()
if not child:
    os.close(target)
    os._exit(0)
os.waitpid(child, 0)
subprocess.run(["true"], close_fds=False, check=True)
os.write(target, content[half:])
os.close(target)
"""


def test_a_program_that_starts_another_while_it_writes(service, mount, tmp_path):
    """The other closes what it inherited, which is no verdict on a file that is half written."""
    content = bytes(range(256)) * 4096
    service.switches.saving_s = 0.2
    service.add_image("a", "toronto", content)
    service.add_image("larger", "toronto", content + b"x")
    source = tmp_path / "source"
    source.write_bytes(content)
    mounted = mount()
    run("python3", "-c", FORKING, source, mounted / "montreal/a")
    run("sync", mounted / "montreal/a")
    assert run("cat", mounted / "montreal/a") == content

    source.write_bytes(content[:-1])
    assert "Operation not supported" in refusal("python3", "-c", FORKING, source, mounted / "montreal/b")
    assert text("ls", mounted / "montreal") == "a"


def test_a_fetch_is_asked_for_by_a_line(service, mount):
    """A mistake reaches who wrote it, and the image appears under its name."""
    mounted = mount()
    control = mounted / "toronto/.fetch"
    assert "Invalid argument" in refusal("bash", "-c", f"echo nonsense > {control}")
    run("sh", "-c", f"echo https://example.org/new.iso > {control}")
    assert text("ls", mounted / "toronto") == "new.iso"
    assert "new.iso" in text("cat", control)
