"""An image that does not come holds up nobody but those who read it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Final

from mount_programs import eventually, run, started

from imagefs.emulator import Fault

MIB: Final = 1 << 20

READERS: Final = 20
"""More than the 12 requests that the kernel, left to itself, sends at once for what no program waits for directly."""

SLOW_S: Final = 90.0


def test_who_waits_for_one_image_holds_up_no_reader_of_another(service, mount):
    """Readahead is such a request, and the first read of a page is taken for readahead."""
    slow = service.add_synthetic("slow", "toronto", 2 * READERS * MIB)
    other = service.add_synthetic("other", "toronto", 3 * MIB)
    mounted = mount()
    service.faults.add(Fault("delayed", image_id=slow, times=None, value=SLOW_S))
    with ExitStack() as stack:
        readers = []
        for place in range(0, 2 * READERS, 2):
            read = ("dd", f"if={mounted / 'toronto/slow'}", "of=/dev/null", "bs=64K", "count=1")
            readers.append(stack.enter_context(started(*read, f"skip={place}M", "iflag=skip_bytes")))
        eventually(lambda: mounted.open_images == READERS and all(map(_waits_for_a_page, readers)), 60)
        assert (
            run("head", "-c", "4096", mounted / "toronto/other") == service.content(other).read_bytes()[:4096]
        )
        assert [reader.poll() for reader in readers] == [None] * READERS
        service.faults.clear()


def test_who_waits_for_a_page_holds_up_nobody_who_opens_the_image(service, mount):
    """A kernel that dropped pages in open(2) would wait for this one there, and nothing could end that."""
    slow = service.add_synthetic("slow", "toronto", 3 * MIB)
    file = mount() / "toronto/slow"
    assert run("head", "-c", "4096", file) == service.content(slow).read_bytes()[:4096]
    service.faults.add(Fault("delayed", image_id=slow, times=None, value=SLOW_S))
    with started("tail", "-c", "4096", file) as reader:
        eventually(lambda: _waits_for_a_page(reader), 60)
        assert run("head", "-c", "4096", file) == service.content(slow).read_bytes()[:4096]
        assert reader.poll() is None


def _waits_for_a_page(program: Popen[bytes]) -> bool:
    """Whether it sleeps in the kernel where only a kill can wake it; open(2) can be interrupted."""
    return Path(f"/proc/{program.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "D"
