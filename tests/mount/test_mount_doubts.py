"""What the mount does where it cannot be sure: answers that are lost, changes by others, a clock that is off."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack

import pytest
from mount_programs import attempt, eventually, refusal, run, started, text

from imagefs.emulator import Fault

CHANGES = {
    "rename": ["mv", "toronto/a", "toronto/b"],
    "delete": ["rm", "toronto/a"],
}


@pytest.mark.parametrize("action", CHANGES)
@pytest.mark.parametrize("kind", ["answer_lost", "garbage_status_line", "truncated_json"])
def test_a_lost_answer_to_a_change_is_no_failure(service, mount, action, kind):
    """The program is told that it is done, which it is, and the service is asked once."""
    service.add_image("a", "toronto", b"abc")
    service.faults.add(Fault(kind, action=action, after_bytes=5))
    mounted = mount()
    run(CHANGES[action][0], *(mounted / path for path in CHANGES[action][1:]))
    left = ["b"] if action == "rename" else []
    assert [image.name for image in service.images()] == left
    assert text("ls", mounted / "toronto").split() == left
    assert service.ledger.count(action) == 1


def test_what_others_rename_is_seen_and_open_files_go_on(service, mount):
    """While an image is pending a listing lives for five seconds; who has the image open does not notice."""
    service.add_image("pending", "roubaix", b"", status="saving")
    image_id = service.add_synthetic("a", "toronto", 3 << 20)
    content = service.content(image_id).read_bytes()
    mounted = mount()
    descriptor = os.open(mounted / "toronto/a", os.O_RDONLY)
    try:
        assert os.pread(descriptor, 4096, 0) == content[:4096]
        service.rename_image(image_id, "b")
        eventually(lambda: text("ls", mounted / "toronto") == "b", within_s=60)
        assert os.pread(descriptor, 4096, 2 << 20) == content[2 << 20 : (2 << 20) + 4096]
    finally:
        os.close(descriptor)
    assert run("cat", mounted / "toronto/b") == content


def test_a_clock_that_is_off_is_named(service, mount):
    """Content is refused with EACCES, and the log says how far the clock is from the service's."""
    service.add_synthetic("a", "toronto", 4096)
    mounted = mount()
    mounted.may_log("clock", "credentials", "authentication")
    run("stat", mounted / "toronto/a")
    service.switches.clock_offset_s = 10_000
    assert "Permission denied" in refusal("cat", mounted / "toronto/a")
    off_s = [int(seconds) for seconds in re.findall(r"this machine's clock is (\d+) s behind", mounted.log)]
    assert off_s
    assert all(9_900 < seconds < 10_100 for seconds in off_s)


@pytest.mark.parametrize(
    ("status", "message"),
    [("saving", "Resource temporarily unavailable"), ("killed", "Input/output error")],
)
def test_details_that_are_ahead_of_the_listing_are_no_empty_image(service, mount, status, message):
    """Where the listing still calls a withdrawn image active, the size in its details means nothing."""
    image_id = service.add_synthetic("a", "toronto", 4096)
    withdrawn = {"status": status, "size": "0", "checksum": ""}
    service.faults.add(Fault("fields", action="details", image_id=image_id, value=withdrawn, times=None))
    file = mount() / "toronto/a"
    assert message in refusal("cat", file)
    service.faults.clear()
    if status == "saving":  # details of a failed image are good for half a minute
        eventually(lambda: attempt("cat", file).stdout == service.content(image_id).read_bytes(), within_s=60)


def test_a_service_that_puts_changes_off_gets_them_later(service, mount):
    """Twice, for a second each: the programs wait, and all is done once."""
    service.switches.saving_s = 0.1
    for region, action, status in (
        ("toronto", "replicate", 503),
        ("montreal", "rename", 503),
        ("roubaix", "delete", 429),
    ):
        image_id = service.add_image("a", region, b"abc")
        service.faults.add(Fault("status", action, image_id, status=status, retry_after="1", times=2))
    mounted = mount()
    with ExitStack() as stack:
        running = [
            stack.enter_context(started(*words))
            for words in (
                ("cp", mounted / "toronto/a", mounted / "roubaix/b"),
                ("mv", mounted / "montreal/a", mounted / "montreal/c"),
                ("rm", mounted / "roubaix/a"),
            )
        ]
        for program in running:
            assert program.communicate(timeout=60) == (b"", b"")
    assert service.faults.struck["status"] == 6
    run("sync", mounted / "roubaix/b")
    left = sorted((image.region, image.name) for image in service.images())
    assert left == [("montreal", "c"), ("roubaix", "b"), ("toronto", "a")]
