"""Where the machine gives no more memory: a call may fail, no byte is wrong, and the mount lives on."""

from __future__ import annotations

import re
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mount_point import Mounted
from mount_programs import attempt, eventually, run
from test_mount_resources import limited

MIB = 1 << 20
IMAGES = 8
SIZE = MIB + 777

MEANT = ("Cannot allocate memory", "Resource temporarily unavailable", "Input/output error")
"""What a call that lacks memory, or a thread for lack of it, may say."""


def address_space_bytes(mounted: Mounted) -> int:
    """What RLIMIT_AS counts of the mount's process."""
    pages = Path(f"/proc/{mounted.pid}/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


@pytest.fixture
def contents(service) -> dict[str, bytes]:
    """The contents of some images in toronto, by name."""
    ids = [service.add_synthetic(f"image-{seed}", "toronto", SIZE, seed=seed) for seed in range(IMAGES)]
    return {service.image(image_id).name: service.content(image_id).read_bytes() for image_id in ids}


@pytest.mark.parametrize("left_mib", [0, 9])
def test_a_mount_outlives_a_lack_of_memory(service, mount, contents, left_mib):
    """With so much left that no thread can be started, or one: each reader has the right bytes or an error."""
    mounted = mount()
    mounted.may_log(".")
    files = {name: mounted / "toronto" / name for name in contents}
    with ThreadPoolExecutor(IMAGES) as threads:
        with limited(mounted, "as", address_space_bytes(mounted) + left_mib * MIB):
            reads = {
                name: threads.submit(attempt, "cat", file, timeout_s=120) for name, file in files.items()
            }
            eventually(
                lambda: re.search("start new thread|MemoryError|memory left", mounted.log) is not None, 60
            )
            listed = attempt("ls", mounted / "toronto")
            assert listed.returncode == 0 or any(said in listed.stderr.decode() for said in MEANT)
        outcomes = {name: read.result() for name, read in reads.items()}
    for name, done in outcomes.items():
        assert done.stdout == contents[name] or any(said in done.stderr.decode() for said in MEANT)
    for name, file in files.items():
        eventually(lambda file=file: attempt("cat", file).returncode == 0, within_s=60)
        assert run("cat", file) == contents[name]


def test_a_mount_without_memory_can_be_unmounted(mount, contents):
    """And what it had cached is there the next time."""
    mounted = mount()
    mounted.may_log(".")
    file = mounted / "toronto/image-0"
    run("cat", file)
    run("prlimit", f"--pid={mounted.pid}", f"--as={address_space_bytes(mounted)}:")
    mounted.umount()
    mounted.mount()
    assert run("cat", file) == contents["image-0"]


def test_a_mount_that_finds_no_memory_says_so(prepare):
    """In one line, and nothing stays mounted."""
    mounted = prepare()
    mounted.may_log(".")
    done = attempt("sh", "-c", 'ulimit -v 60000 && exec "$@"', "sh", *mounted.command)
    assert done.returncode == 1
    assert re.fullmatch(r"imagefs: [^\n]+\n", done.stderr.decode())
    assert not mounted.is_mounted
