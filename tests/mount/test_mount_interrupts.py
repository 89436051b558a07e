"""Ctrl-C and Ctrl-Z: whoever waits for the service can be stopped, and nobody else notices."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from mount_programs import MYSELF, Person, eventually, refusal, run, started, text

import imagefs
from imagefs.app import TRANSFER_THREADS
from imagefs.emulator import Emulator, Fault
from imagefs.fuse import interpose

MIB = 1 << 20

WAITING = {
    "stat": ("details", ["stat"]),
    "open": ("details", ["cat"]),
    "attributes": ("details", ["getfattr", "-d"]),
    "read": ("retrieve", ["cat"]),
    "read around the page cache": ("retrieve", ["dd", "iflag=direct", "bs=64K"]),
}
"""Which call of the service is never answered, and a program that then waits."""


def on(file: Path, words: list[str]) -> list[str]:
    """The command line of *words* on *file*."""
    return [*words, f"if={file}" if words[0] == "dd" else str(file)]


def has_stopped(service: Emulator) -> bool:
    """Whether no content is on its way."""
    before = service.ledger.bytes_retrieved()
    time.sleep(0.7)
    return service.ledger.bytes_retrieved() == before


def has_open(process: subprocess.Popen[bytes], file: Path) -> bool:
    """Whether the standard output of a program is *file* by now (proc_pid_fd(5))."""
    return os.readlink(f"/proc/{process.pid}/fd/1") == str(file)


def is_stopped(process: subprocess.Popen[bytes]) -> bool:
    """Whether a program stands still as after Ctrl-Z (proc_pid_stat(5), field 3)."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize(("action", "words"), WAITING.values(), ids=WAITING)
def test_ctrl_c_ends_who_waits(service, mount, action, words):
    """The program ends at once, long before any deadline; meanwhile others get all they want."""
    waited_for = service.add_synthetic("a", "toronto", MIB)
    other = service.add_synthetic("b", "montreal", MIB, seed=1)
    service.faults.add(Fault("never_answers", action=action, image_id=waited_for, times=None))
    mounted = mount()
    with started(*on(mounted / "toronto/a", words)) as program:
        eventually(lambda: service.faults.struck["never_answers"] > 0)
        assert text("ls", mounted / "montreal") == "b"
        assert run("cat", mounted / "montreal/b") == service.content(other).read_bytes()
        assert program.poll() is None
        program.send_signal(signal.SIGINT)
        assert program.wait(5) == -signal.SIGINT
    assert text("ls", mounted / "toronto") == "a"


def test_who_gave_up_on_a_silent_image_leaves_nothing_that_others_wait_for(service, mount):
    """As often as there are transfers at all: each of them ends with its reader, before its answer has begun."""
    silent = service.add_synthetic("a", "toronto", MIB)
    other = service.add_synthetic("b", "montreal", MIB, seed=1)
    service.faults.add(Fault("never_answers", action="retrieve", image_id=silent, times=None))
    mounted = mount()
    for attempts in range(1, TRANSFER_THREADS + 1):
        with started("dd", f"if={mounted / 'toronto/a'}", "iflag=direct", "bs=64K"):
            eventually(lambda wanted=attempts: service.faults.struck["never_answers"] >= wanted)
    assert run("cat", mounted / "montreal/b", timeout_s=20) == service.content(other).read_bytes()


def test_nothing_is_fetched_for_who_was_killed(service, mount):
    """The transfer ends before it reaches what the program waited for, though the kernel interrupts no such read."""
    service.switches.range = False
    service.switches.rate_bytes_per_s = 4 * MIB
    image_id = service.add_synthetic("a", "toronto", 48 * MIB)
    mounted = mount()
    with started("dd", f"if={mounted / 'toronto/a'}", "bs=1M", "skip=47") as program:
        eventually(lambda: service.ledger.bytes_retrieved() > MIB)
        program.kill()
    eventually(lambda: has_stopped(service))
    assert service.ledger.bytes_retrieved() < 40 * MIB
    service.switches.range = True
    service.switches.rate_bytes_per_s = None
    assert run("head", "-c", "4096", mounted / "toronto/a") == service.content(image_id).read_bytes()[:4096]


@pytest.mark.parametrize(
    "words", [["cat"], ["dd", "iflag=direct", "bs=64K"]], ids=["page cache", "around the page cache"]
)
def test_who_was_stopped_goes_on_with_the_right_bytes(service, mount, words):
    """Ctrl-Z in the middle of a read, and fg later."""
    image_id = service.add_synthetic("a", "toronto", MIB)
    service.faults.add(Fault("delayed", value=1.0, image_id=image_id))
    mounted = mount()
    with started(*on(mounted / "toronto/a", words)) as program:
        eventually(lambda: service.faults.struck["delayed"] > 0)
        program.send_signal(signal.SIGSTOP)
        eventually(lambda: is_stopped(program))
        program.send_signal(signal.SIGCONT)
        assert program.communicate(timeout=30)[0] == service.content(image_id).read_bytes()
        assert program.returncode == 0


def test_who_was_stopped_asks_for_each_fetch_once(service, mount, workspace):
    """Ctrl-Z while the service is asked, and fg later: cp then writes all its lines again."""
    lines = workspace / "lines"
    lines.write_text("http://127.0.0.1:1/a.iso\nhttp://127.0.0.1:1/b.iso\n")
    service.faults.add(Fault("delayed", action="fetch", value=1.5))
    mounted = mount()
    mounted.may_log("could not make image")
    with started("cp", lines, mounted / "toronto/.fetch") as program:
        eventually(lambda: service.faults.struck["delayed"] > 0)
        program.send_signal(signal.SIGSTOP)
        eventually(lambda: is_stopped(program))
        program.send_signal(signal.SIGCONT)
        assert (program.wait(30), program.stderr.read()) == (0, b"")
    assert [image.name for image in service.images()] == ["a.iso", "b.iso"]


def test_of_two_who_wait_for_one_image_one_goes(service, mount):
    """Both wait for the same bytes; the one that stays gets them."""
    image_id = service.add_synthetic("a", "toronto", MIB)
    service.faults.add(Fault("delayed", value=1.0, image_id=image_id))
    command = on(mount() / "toronto/a", ["dd", "iflag=direct", "bs=64K"])
    with started(*command) as leaving, started(*command) as staying:
        eventually(lambda: service.faults.struck["delayed"] > 0)
        leaving.send_signal(signal.SIGINT)
        assert leaving.wait(5) == -signal.SIGINT
        assert staying.communicate(timeout=30)[0] == service.content(image_id).read_bytes()


def test_who_writes_to_a_control_file_waits_for_nobody_else(service, mount):
    """The kernel lets one program at a time write to a file, and the others wait for it, which no signal ends."""
    service.add_image("a", "toronto", b"a")
    service.faults.add(Fault("never_answers", action="fetch"))
    mounted = mount()
    mounted.may_log(".")
    control = mounted / "toronto/.fetch"
    command = ("sh", "-c", f"echo http://127.0.0.1:1/a.iso > {control}")
    with started(*command, group=0) as first:
        eventually(lambda: service.faults.struck["never_answers"] > 0)
        with started(*command, group=0) as second:
            eventually(lambda: has_open(second, control))
            for program in (second, first):
                assert program.poll() is None
                os.killpg(program.pid, signal.SIGINT)
                assert program.wait(10) != 0


def test_without_the_addition_everything_works(service, mount, workspace):
    """Where the C addition could not be compiled, the log says what is missing, and a copy is one by its bytes."""
    packages = workspace / "packages"
    shutil.copytree(
        Path(imagefs.__file__).parent,
        packages / "imagefs",
        ignore=shutil.ignore_patterns(interpose.FILE.name, "__pycache__"),
    )
    person = Person(
        MYSELF.uid,
        MYSELF.gid,
        (sys.executable, "-P", "-m", "imagefs"),
        environment={"PYTHONPATH": str(packages)},
    )
    image_id = service.add_synthetic("a", "toronto", MIB)
    mounted = mount(person=person)
    mounted.may_log("Without the addition to libfuse")
    assert run("cat", mounted / "toronto/a") == service.content(image_id).read_bytes()
    assert mounted.log.count("Without the addition to libfuse") == 1
    with started("cat", mounted / "toronto/a") as program:
        assert program.communicate(timeout=30)[0] == service.content(image_id).read_bytes()

    run("cp", mounted / "toronto/a", mounted / "montreal/b")
    run("sync", mounted / "montreal/b")
    assert [(image.name, image.status) for image in service.images()] == [("a", "active"), ("b", "active")]
    assert service.ledger.count("replicate") == 1
    assert service.ledger.bytes_retrieved() == MIB
    (workspace / "unknown").write_bytes(b"of no image")
    assert "Operation not supported" in refusal("cp", workspace / "unknown", mounted / "montreal/c")


CHANGING = {
    "rename": ("rename", ["mv", "{source}/a", "{source}/b"]),
    "move": ("replicate", ["mv", "{source}/a", "{target}/moved"]),
    "copy": ("replicate", ["cp", "{source}/a", "{target}/copied"]),
    "delete": ("delete", ["rm", "-f", "{source}/a"]),
    "fetch": ("fetch", ["sh", "-c", "echo http://127.0.0.1:1/a.iso > {source}/.fetch"]),
}
"""Which call of the service is never answered, and a program that then waits."""


def test_ctrl_c_ends_who_changes(service, mount):
    """Each program that waits for a change ends at once; listings, reads and df are had meanwhile."""
    other = service.add_synthetic("b", "roubaix", MIB)
    # A directory each: the kernel locks it while something in it is renamed or removed.
    places = {name: (f"{name}-source", f"{name}-target") for name in CHANGING}
    for (source, target), (action, _) in zip(places.values(), CHANGING.values(), strict=True):
        image_id = service.add_image("a", source, source.encode())
        service.add_image("other", target, b"other")
        if action != "fetch":
            service.faults.add(Fault("never_answers", action=action, image_id=image_id))
    service.faults.add(Fault("never_answers", action="fetch"))
    mounted = mount()
    mounted.may_log(".")
    with ExitStack() as stack:
        programs = []
        for (_, words), (source, target) in zip(CHANGING.values(), places.values(), strict=True):
            command = [word.format(source=mounted / source, target=mounted / target) for word in words]
            programs.append(stack.enter_context(started(*command, group=0)))
        eventually(lambda: service.faults.struck["never_answers"] == len(CHANGING), within_s=60)
        assert text("ls", mounted / "roubaix") == "b"
        assert run("cat", mounted / "roubaix/b") == service.content(other).read_bytes()
        run("df", mounted.path)
        assert [program.poll() for program in programs] == [None] * len(programs)
        for program in programs:
            os.killpg(program.pid, signal.SIGINT)
            assert program.wait(10) != 0
    assert {"a"} == {image.name for image in service.images() if image.region.endswith("source")}
