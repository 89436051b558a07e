"""Where the machine gives no more threads or descriptors: a call may fail, the mount lives on, work is finished."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from mount_point import Mounted
from mount_programs import Person, attempt, eventually, run, text

from imagefs.emulator import Emulator

MIB = 1 << 20
IMAGES = 8
SAID = ("Input/output error", "Resource temporarily unavailable")


@contextmanager
def limited(mounted: Mounted, kind: str, most: int) -> Iterator[None]:
    """Let the mount's process have no more than *most* of a resource, as prlimit(1) calls it, for a while."""

    pid = mounted.pid

    def prlimit(*arguments: str) -> str:
        return text("prlimit", f"--pid={pid}", *arguments, person=mounted.person)

    soft = prlimit(f"--{kind}", "--output=SOFT", "--noheadings", "--raw")
    prlimit(f"--{kind}={most}:")
    try:
        yield
    finally:
        prlimit(f"--{kind}={soft}:")


@pytest.fixture(autouse=True)
def _images(service):
    """Images to read, and one to move."""
    for number in range(IMAGES):
        service.add_synthetic(str(number), "toronto", MIB)
    service.add_synthetic("moved", "toronto", MIB)


def check_life_under_a_limit(
    service: Emulator, mounted: Mounted, person: Person, kind: str, most: int, said_in_log: str
) -> None:
    """A move is under way and images are read while the limit strikes; all is as it should be once it is gone."""
    listed = {one.name: one.image_id for one in service.images()}
    moved = listed.pop("moved")
    ids = [listed[str(number)] for number in range(IMAGES)]
    files = [mounted / f"toronto/{number}" for number in range(IMAGES)]
    service.switches.saving_s = 2.0
    run("mv", mounted / "toronto/moved", mounted / "montreal/moved", person=person)
    service.switches.latency_s = 0.2
    with ThreadPoolExecutor(IMAGES) as threads:
        with limited(mounted, kind, most):
            reads = [threads.submit(attempt, "cat", file, person=person, timeout_s=120) for file in files]
            eventually(lambda: re.search(said_in_log, mounted.log) is not None, within_s=60)
        service.switches.latency_s = 0.0
        outcomes = [read.result() for read in reads]
    for image_id, file, done in zip(ids, files, outcomes, strict=True):
        content = service.content(image_id).read_bytes()
        assert done.stdout == content or any(said in done.stderr.decode() for said in SAID), done.stderr
        eventually(
            lambda file=file, content=content: attempt("cat", file, person=person).stdout == content, 60
        )
    eventually(lambda: moved not in {one.image_id for one in service.images()}, within_s=90)
    assert [one.name for one in service.images() if one.region == "montreal"] == ["moved"]


MAY_LOG = (
    "thread|The cache takes no more|Too many open files|descriptor|cannot be|no answer|refused|cannot start"
    "|could not|unable to open"
)


def test_a_mount_outlives_a_lack_of_threads(service, mount, ordinary):
    """The limit of a user's processes counts threads, too; it does not hold for root."""
    mounted = mount(person=ordinary)
    mounted.may_log(MAY_LOG)
    check_life_under_a_limit(service, mounted, ordinary, "nproc", 1, "start a|start new thread")


def test_a_mount_outlives_a_lack_of_descriptors(service, mount):
    """No file of the cache can be opened, and no connection be made."""
    mounted = mount()
    mounted.may_log(MAY_LOG)
    check_life_under_a_limit(
        service, mounted, mounted.person, "nofile", 3, "(?i)too many open files|no cache file"
    )


def test_threads_keep_no_memory_of_their_own(mount):
    """What one has freed, the next one gets: glibc's malloc has no further heap (of 64 MiB, aligned so)."""
    mounted = mount()
    for number in range(IMAGES):
        run("cat", mounted / f"toronto/{number}", person=mounted.person)
    maps = Path(f"/proc/{mounted.pid}/maps").read_text(encoding="utf-8")
    places = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps.splitlines()]
    heap_bytes = 64 * MIB
    heaps = [
        first
        for (first, used), (rest, end) in itertools.pairwise(places)
        if first % heap_bytes == 0 and used == rest and end - first == heap_bytes
    ]
    assert not heaps
