"""Rounds in which the service never answers: who waits can be ended by Ctrl-C, or by its deadline, and others go on."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from campaign import stalls
from campaign.clock import CallClock
from campaign.daemon import Daemon
from campaign.scene import Scene
from campaign.subjects import KIB, Subject, Subjects
from campaign.tally import Tally
from imagefs.emulator import Emulator, Fault

TOOLS_AT_ONCE: Final = 5

ENDED_S: Final = 60.0

Words = Callable[[Path, Subject], list[str]]


@dataclass(frozen=True, slots=True)
class Tool:
    """A program, the call of the service that it waits for, and the kind of deadline that ends it."""

    words: Words
    action: str
    deadline: str


def _file(root: Path, subject: Subject) -> str:
    return str(root / subject.path)


TOOLS: Final[dict[str, Tool]] = {
    "cat": Tool(lambda root, subject: ["cat", _file(root, subject)], "retrieve", "read"),
    "dd": Tool(
        lambda root, subject: ["dd", f"if={_file(root, subject)}", "iflag=direct", "bs=64K"],
        "retrieve",
        "read",
    ),
    "cp": Tool(lambda root, subject: ["cp", _file(root, subject), "/dev/null"], "retrieve", "read"),
    "stat": Tool(lambda root, subject: ["stat", _file(root, subject)], "details", "look"),
    "ls -l": Tool(lambda root, subject: ["ls", "-l", _file(root, subject)], "details", "look"),
    "getfattr": Tool(
        lambda root, subject: ["getfattr", "-n", "user.imagefs.checksum", _file(root, subject)],
        "details",
        "look",
    ),
    "mv": Tool(
        lambda root, subject: [
            "mv",
            _file(root, subject),
            str(root / f"{subject.region}/{subject.name}.new"),
        ],
        "rename",
        "change",
    ),
    "mv to a region": Tool(
        lambda root, subject: ["mv", _file(root, subject), str(root / f"montreal/{subject.name}.new")],
        "replicate",
        "change",
    ),
    "cp to a region": Tool(
        lambda root, subject: ["cp", _file(root, subject), str(root / f"roubaix/{subject.name}.copy")],
        "replicate",
        "change",
    ),
    "rm": Tool(lambda root, subject: ["rm", "-f", _file(root, subject)], "delete", "change"),
    "echo > .fetch": Tool(
        lambda root, subject: [
            *("sh", "-c", 'echo "$0" > "$1"'),
            f"http://127.0.0.1:1/{subject.name}.iso",
            str(root / subject.region / ".fetch"),
        ],
        "fetch",
        "change",
    ),
}
KINDS: Final = tuple(f"interrupt: {name}" for name in TOOLS)
SILENCE_KINDS: Final = tuple(f"never answered: {name}" for name in TOOLS)


def _start(
    emulator: Emulator, root: Path, name: str, subject: Subject, times: int | None
) -> subprocess.Popen[bytes]:
    """Start a tool on an image of its own, for which the service does not answer what the tool waits for."""
    tool = TOOLS[name]
    image_id = None if tool.action == "fetch" else subject.image_id
    emulator.faults.add(Fault("never_answers", tool.action, image_id, times=times))
    # In a group of its own, as of a shell's job: Ctrl-C reaches all of it.
    return subprocess.Popen(
        tool.words(root, subject),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        process_group=0,
    )


def images(subjects: Subjects, _: random.Random) -> list[Subject]:
    """One for each tool of a round, and one that is read meanwhile.

    Each is in a region of its own: the kernel locks a directory while something in it is renamed or removed.
    """
    return [subjects.make(200 * KIB, f"region-{number}") for number in range(TOOLS_AT_ONCE + 1)]


def run(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """Each of a few tools waits, is interrupted, and ends; an image and a listing are had meanwhile."""
    names = rng.sample(tuple(TOOLS), TOOLS_AT_ONCE)
    *own, other = images
    struck = scene.emulator.faults.struck["never_answers"]
    started = {
        name: _start(scene.emulator, scene.daemon.root, name, subject, 1)
        for name, subject in zip(names, own, strict=True)
    }
    try:
        _await_waiting(scene, started.values(), struck)
        scene.must_read([other], "others go on")
        with scene.clock.call("look", "ls of another region"):
            list((scene.daemon.root / "toronto").iterdir())
        for name, process in started.items():
            with contextlib.suppress(ProcessLookupError):  # it had no need to wait
                os.killpg(process.pid, signal.SIGINT)
            with scene.clock.call("interrupt", name):
                _await(scene, name, process)
            scene.tally.strike(f"interrupt: {name}")
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def _await_waiting(scene: Scene, tools: Collection[subprocess.Popen[bytes]], struck_before: int) -> None:
    """Wait until each tool waits for the service, or has ended: what it looks at may be known already."""
    give_up_s = time.monotonic() + ENDED_S
    while time.monotonic() < give_up_s:
        waiting = scene.emulator.faults.struck["never_answers"] - struck_before
        ended = sum(process.poll() is not None for process in tools)
        if waiting + ended >= len(tools):
            return
        time.sleep(0.02)


def _await(scene: Scene, name: str, process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(ENDED_S)
    except subprocess.TimeoutExpired:
        scene.tally.broken("Ctrl-C ends every wait", f"{name} went on for {ENDED_S:.0f} s")


class Silence:
    """All tools at once on a service of their own that never answers; each ends by its deadline.

    Runs beside the rounds, as it takes a minute. *clock* and *tally* are the campaign's.
    """

    def __init__(self, folder: Path, clock: CallClock, tally: Tally) -> None:
        self._clock = clock
        self._tally = tally
        self._emulator = Emulator(folder / "silent-service")
        self._subjects = Subjects(self._emulator, random.Random(0))
        self._daemon = Daemon(folder / "silent", clock, ())
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Mount and start all tools."""
        images = {
            name: self._subjects.make(200 * KIB, f"region-{number}") for number, name in enumerate(TOOLS)
        }
        self._emulator.start()
        self._daemon.options = (
            *("--api-url", self._emulator.api_url, "--credentials", str(self._emulator.credentials_file)),
        )
        self._daemon.mount()
        self._tally.plan(SILENCE_KINDS)
        for name in TOOLS:
            process = _start(self._emulator, self._daemon.root, name, images[name], None)
            self._started[name] = process
            thread = threading.Thread(target=self._watch, args=(name, process))
            thread.start()
            self._threads.append(thread)
        return self

    def _watch(self, name: str, process: subprocess.Popen[bytes]) -> None:
        done = stalls.attend(process, TOOLS[name].deadline, f"{name}, never answered", self._clock)
        self._tally.strike(f"never answered: {name}")
        if done.returncode == 0:
            self._tally.broken("an error within the deadline", f"{name} was never answered, and succeeded")

    def _look(self, command: list[str]) -> None:
        """Run a program that the last listing is enough for."""
        done = stalls.run(command, "look", f"{command[0]}, no listing", self._clock)
        self._tally.strike(f"never answered: {command[0]}, no listing")
        if done.returncode != 0:
            self._tally.broken("the last listing is shown", f"{command[0]}: {done.stderr!r}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        """Wait for all tools; look whether names are shown though no listing comes; and leave nothing behind."""
        try:
            for process in self._started.values():
                if kind is not None:
                    process.kill()
            for thread in self._threads:
                thread.join()
            if kind is not None:
                return
            self._emulator.faults.add(Fault("never_answers", "list", times=None))
            for command in (["ls", str(self._daemon.root / "region-0")], ["df", str(self._daemon.root)]):
                self._look(command)
        finally:
            self._daemon.clear_away()
            self._emulator.close()
