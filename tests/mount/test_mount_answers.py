"""What a program is told where the service fails, is busy, silent or gone, by the table of errors."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Final

import pytest
from mount_programs import eventually, run, started, text

from imagefs.emulator import Fault

BUSY, LATE, FAILED = "Resource temporarily unavailable", "Connection timed out", "Remote I/O error"

PROGRAMS: Final = {
    "rename failed": (["mv", "{}/a", "{}/b"], Fault("status", "rename", status=503, times=None), BUSY),
    "delete failed": (["rm", "-f", "{}/a"], Fault("status", "delete", status=500, times=None), BUSY),
    "rename silent": (["mv", "{}/a", "{}/b"], Fault("never_answers", "rename", times=None), LATE),
    "delete silent": (["rm", "-f", "{}/a"], Fault("never_answers", "delete", times=None), LATE),
    "move silent": (["mv", "{}/a", "{}-target/a"], Fault("never_answers", "replicate", times=None), LATE),
    "copy failed": (
        ["cp", "{}/a", "{}-target/a"],
        Fault("status", "replicate", status=500, times=None),
        FAILED,
    ),
    "copy lost": (["cp", "{}/a", "{}-target/b"], Fault("answer_lost", "replicate", times=None), LATE),
    "details silent": (["stat", "{}/a"], Fault("never_answers", "details", times=None), LATE),
}
"""By region: a program, what the service answers to what it asks for, and what the program says then."""


@pytest.mark.timeout(300)
def test_a_call_has_an_end_and_its_own_errno(service, mount):
    """Nobody waits inside of a directory for longer than half a minute; others go on, and nothing is lost.

    All the while listings are old: nothing is asked for twice for that, and nothing deleted comes back.
    """
    for region, (_, fault, _) in PROGRAMS.items():
        image_id = service.add_image("a", region, region.encode())
        service.add_image("other", f"{region}-target", b"other")
        service.faults.add(Fault(fault.kind, fault.action, image_id, None, status=fault.status))
    service.add_image("b", "roubaix", b"abc")
    service.add_image("removed", "roubaix", b"abc")
    service.add_image("pending", "roubaix", b"", status="saving")  # the listing is asked for more often
    mounted = mount()
    mounted.may_log(".")
    service.switches.list_frozen = True
    run("cat", mounted / "roubaix/b")
    run("rm", mounted / "roubaix/removed")
    with ExitStack() as stack:
        running = {
            region: stack.enter_context(started(*(word.format(mounted / region) for word in words)))
            for region, (words, _, _) in PROGRAMS.items()
        }
        assert run("cat", mounted / "roubaix/b") == b"abc"
        assert text("ls", mounted / "details silent") == "a"
        said = {region: program.communicate(timeout=120)[1].decode() for region, program in running.items()}
    for region, (_, _, message) in PROGRAMS.items():
        assert message in said[region], region
        assert "other" in text("ls", mounted / f"{region}-target")
    assert text("ls", mounted / "roubaix") == "b\npending"
    copied = [image.region for image in service.images() if image.name == "a"]
    assert sorted(copied) == sorted([*PROGRAMS, "copy lost-target"])
    assert service.ledger.count("replicate") == 3
    service.switches.list_frozen = False
    eventually(lambda: len(text("ls", mounted / "copy lost-target").split()) == 2, within_s=60)


def test_a_listing_that_cannot_be_refreshed_stays(service, mount):
    """What was known is shown, and what is cached is read, after the service was asked in vain."""
    service.add_image("a", "toronto", b"abc")
    service.add_image("pending", "montreal", b"", status="saving")  # the listing is asked for more often
    mounted = mount()
    mounted.may_log("cannot be listed")
    assert run("cat", mounted / "toronto/a") == b"abc"
    shown = text("ls", "-l", mounted / "toronto")
    service.stop()

    def was_asked_in_vain() -> bool:
        assert text("ls", "-l", mounted / "toronto") == shown
        return json.loads(mounted.xattr(mounted.path, "status"))["service"]["unanswered"] > 0

    eventually(was_asked_in_vain, within_s=60)
    assert text("ls", "-l", mounted / "toronto") == shown
    assert run("cat", mounted / "toronto/a") == b"abc"
    service.start()
