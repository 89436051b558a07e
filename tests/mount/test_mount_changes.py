"""What cannot be changed through a mount, and how that is said."""

from __future__ import annotations

import pytest
from mount_programs import refusal, run

CHANGES = {
    "touch": ["touch", "{region}/new"],
    "redirection": ["sh", "-c", "echo x > {region}/new"],
    "rm": ["rm", "-f", "{region}/a"],
    "mv": ["mv", "{region}/a", "{region}/b"],
    "cp into": ["cp", "/etc/passwd", "{region}/new"],
    "cp between regions": ["cp", "{region}/a", "{root}/montreal/a"],
    "append": ["sh", "-c", "echo x >> {region}/a"],
    "truncate": ["truncate", "-s", "0", "{region}/a"],
    "mkdir": ["mkdir", "{region}/folder"],
    "mkdir in the root": ["mkdir", "{root}/folder"],
    "rmdir": ["rmdir", "{root}/montreal"],
    "ln -s": ["ln", "-s", "a", "{region}/link"],
    "mkfifo": ["mkfifo", "{region}/fifo"],
}

LATER = ("touch", "redirection", "rm", "mv", "cp into", "cp between regions", "append", "truncate")


@pytest.mark.parametrize("name", CHANGES)
def test_a_read_only_mount_refuses_every_change(service, mount, name):
    """EROFS, before anything is asked of the service."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount("--read-only")
    command = [word.format(root=mounted.path, region=mounted / "toronto") for word in CHANGES[name]]
    assert "Read-only file system" in refusal(*command)
    assert {call.action for call in service.ledger.calls} <= {"list", "details"}
    assert run("cat", mounted / "toronto/a") == b"abc"


@pytest.mark.parametrize("name", LATER)
def test_images_cannot_be_changed(service, mount, name):
    """Without --read-only, what is not possible says that it is read-only, too."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    command = [word.format(root=mounted.path, region=mounted / "toronto") for word in CHANGES[name]]
    assert "Read-only file system" in refusal(*command)
    assert run("cat", mounted / "toronto/a") == b"abc"


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - set(LATER)))
def test_the_structure_cannot_be_changed(service, mount, name):
    """Regions, links and special files are a matter of permission, as the message says."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    command = [word.format(root=mounted.path, region=mounted / "toronto") for word in CHANGES[name]]
    assert "Operation not permitted" in refusal(*command)


def test_overwriting_an_image_says_that_it_exists(service, mount):
    """cp onto an image is told that there is one already."""
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    assert "File exists" in refusal("cp", "/etc/passwd", mounted / "toronto/a")
    assert run("cat", mounted / "toronto/a") == b"abc"
