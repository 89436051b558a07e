"""The mount's process killed while the account is being changed: no image is lost, and none is made twice.

What it had begun is taken up by the next mount. Nothing else looks after it meanwhile.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from mount_point import Mounted
from mount_programs import attempt, environment_of, eventually, run

from imagefs.emulator import Emulator, Fault
from imagefs.emulator.images import Image

CONTENT = bytes(range(256)) * 1024
SAVING_S = 0.5
LONG_S = 120.0
"""Longer than any test waits."""

Moment = Callable[[Emulator], bool]


def replicas(service: Emulator) -> list[Image]:
    """What was made in montreal."""
    return [image for image in service.images() if image.region == "montreal"]


def names(service: Emulator) -> list[tuple[str, str]]:
    """(region, name) of all images."""
    return sorted((image.region, image.name) for image in service.images())


def await_unhurt(service: Emulator, is_so: Callable[[], bool]) -> None:
    """Wait until *is_so*; at no time may every active copy of the image be gone, or a third one be there."""

    def looked() -> bool:
        images = service.images()
        assert any(image.status == "active" for image in images), images
        assert len(images) <= 2, images
        return is_so()

    eventually(looked)


@dataclass(frozen=True)
class Kill:
    """When the process is killed, what keeps the service from going on by then, and whether it had begun."""

    moment: Moment
    fault: Fault | None = None
    saving_s: float = SAVING_S
    begun: bool = True


def asked(action: str) -> Moment:
    """The service has got a call of *action*."""
    return lambda service: service.ledger.count(action) > 0


KILLS = {
    "before the service has begun": Kill(
        asked("replicate"), Fault("never_answers", action="replicate"), begun=False
    ),
    "before the answer to replicate": Kill(
        lambda service: bool(replicas(service)), Fault("delayed", action="replicate", value=LONG_S)
    ),
    "once the replica is there": Kill(lambda service: bool(replicas(service))),
    "before the new name": Kill(asked("rename"), Fault("never_answers", action="rename")),
    "before the answer to rename": Kill(
        lambda service: ("montreal", "b") in names(service), Fault("delayed", action="rename", value=LONG_S)
    ),
    "while the replica is pending": Kill(
        lambda service: ("montreal", "b") in names(service) and replicas(service)[0].status != "active",
        saving_s=2.0,
    ),
    "once the replica is active": Kill(
        lambda service: any(image.status == "active" for image in replicas(service))
    ),
}
"""Of both a copy and a move."""

MOVE_KILLS = {
    **KILLS,
    "before the source is deleted": Kill(asked("delete"), Fault("never_answers", action="delete")),
    "before the answer to delete": Kill(
        lambda service: len(service.images()) == 1 and bool(replicas(service)),
        Fault("delayed", action="delete", value=LONG_S),
    ),
}


@pytest.fixture
def source(service: Emulator) -> str:
    """The one image of the account, of which the replica in montreal is to be called b."""
    return service.add_image("a", "toronto", CONTENT)


def killed_during(service: Emulator, mounted: Mounted, kill: Kill, *command: str) -> None:
    """Start *command*, kill the mount's process at the moment that *kill* says, and mount again."""
    mounted.may_log("was interrupted; no image is listed that it may have led to")
    service.switches.saving_s = kill.saving_s
    if kill.fault is not None:
        service.faults.add(kill.fault)
    words = [*command, str(mounted / "toronto/a"), str(mounted / "montreal/b")]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, env=environment_of(mounted.person)) as process:
        await_unhurt(service, lambda: kill.moment(service))
        mounted.kill()
        process.wait(20)
    await_unhurt(service, lambda: True)
    service.faults.clear()
    mounted.mount()


@pytest.mark.parametrize("kill", MOVE_KILLS.values(), ids=MOVE_KILLS)
def test_a_move(service, mount, source, kill):
    """It ends as moved where the service had begun, else with nothing done, and the image is always there."""
    mounted = mount()
    killed_during(service, mounted, kill, "mv")
    expected = [("montreal", "b")] if kill.begun else [("toronto", "a")]
    await_unhurt(service, lambda: names(service) == expected)
    assert service.ledger.count("replicate") == 1
    run("sync", mounted.path.joinpath(*expected[0]))
    assert run("cat", mounted.path.joinpath(*expected[0])) == CONTENT


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_a_copy_with_another_name(service, mount, source, kill):
    """There is one replica, with the name that was wanted, where the service had begun, else none."""
    mounted = mount()
    killed_during(service, mounted, kill, "cp")
    expected = [("montreal", "b"), ("toronto", "a")] if kill.begun else [("toronto", "a")]
    await_unhurt(service, lambda: names(service) == expected)
    assert service.ledger.count("replicate") == 1
    for region, name in expected:
        run("sync", mounted / region / name)
        assert run("cat", mounted / region / name) == CONTENT


@pytest.mark.parametrize("program", ["cp", "mv"])
def test_a_lost_answer(service, mount, source, program):
    """A replica of which the answer got lost is found again, not made again; the program never knows."""
    mounted = mount()
    service.switches.saving_s = SAVING_S
    service.faults.add(Fault("answer_lost"))
    run(program, mounted / "toronto/a", mounted / "montreal/b")
    expected = [("montreal", "b")] if program == "mv" else [("montreal", "b"), ("toronto", "a")]
    await_unhurt(service, lambda: names(service) == expected)
    assert service.faults.struck["answer_lost"] == service.ledger.count("replicate") == 1


def test_a_deletion_that_waits_for_a_replica(service, mount, source):
    """A source removed while its replica is pending is deleted by the next mount, and not before."""
    mounted = mount()
    service.switches.saving_s = 2.0
    run("cp", mounted / "toronto/a", mounted / "montreal/a")
    run("rm", mounted / "toronto/a")
    mounted.kill()
    assert service.ledger.count("delete") == 0
    mounted.mount()
    assert attempt("stat", mounted / "toronto/a").returncode != 0
    await_unhurt(service, lambda: names(service) == [("montreal", "a")])
    assert replicas(service)[0].status == "active"
