"""SIGKILL of a mount, at any moment and at any system call, whatever it is at; and the mount after it."""

from __future__ import annotations

import random
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crashes.mortal_mount import END_S, MOUNT_S, PROGRAM_S, STEP_S, MortalMount, Stuck, kill_all, wait_until
from crashes.scenes import IMAGES, SCENES, Scene
from crashes.stage import MEMORY
from imagefs.emulator import Emulator
from imagefs.fuse.mounts import mount_at
from progress import Progress

SYSTEM_CALLS: Final = {
    "pwrite64": 80,
    "fdatasync": 12,
    "fsync": 6,
    "ftruncate": 6,
    "fallocate": 8,
    "mkdirat": 4,
    "openat": 900,
    "preadv2": 60,
    "preadv": 40,
    "pread64": 60,
    "writev": 120,
    "sendto": 30,
    "recvfrom": 60,
    "connect": 8,
    "futex": 400,
    "close": 300,
}
"""Which of so many calls of the process may be its last."""

LATEST_S: Final = 3.0
SETTLE_S: Final = 90.0


@dataclass(slots=True)
class Kills:
    """The figures of a campaign so far; each of ``broken`` is a sentence about a promise that was not kept."""

    count: int = 0
    by_scene: Counter[str] = field(default_factory=Counter)
    at_calls: int = 0
    while_mounting: int = 0
    next_mounts_s: list[float] = field(default_factory=list)
    bytes_compared: int = 0
    broken: list[str] = field(default_factory=list)

    def rows(self) -> dict[str, object]:
        """As shown at the end."""
        return {
            "kills": self.count,
            "during": ", ".join(f"{scene.name}: {self.by_scene[scene.name]}" for scene in SCENES),
            "at a chosen system call": self.at_calls,
            "before the mount was there": self.while_mounting,
            "next mount, at most": f"{max(self.next_mounts_s, default=0.0):.2f} s",
            "bytes compared after it": self.bytes_compared,
            "promises broken": len(self.broken),
        }


def campaign(found: Kills, count: int, seed: int, scenes: Sequence[Scene] = SCENES) -> None:
    """Kill a mount *count* times, the scenes in turn."""
    progress = Progress()
    while found.count < count:
        scene = scenes[found.count % len(scenes)]
        progress.show(f"kills: {found.count} of {count}, {scene.name}")
        with tempfile.TemporaryDirectory(prefix="imagefs-kills-", dir=MEMORY) as folder:
            _round(found, scene, Path(folder), random.Random(f"{seed} {found.count}"))
    progress.end()


@dataclass(frozen=True, slots=True)
class _Kill:
    """When the process is killed: at the *number*th *call*, or *after_s* where that is None."""

    call: str | None
    number: int
    after_s: float

    def __str__(self) -> str:
        return f"{self.call} {self.number}" if self.call else f"{self.after_s:.3f} s"

    @classmethod
    def drawn(cls, chance: random.Random) -> _Kill:
        call = chance.choice([*SYSTEM_CALLS, *[None] * len(SYSTEM_CALLS)])
        number = 1 + int(chance.random() ** 2 * SYSTEM_CALLS.get(call or "", 1))
        return cls(call, number, LATEST_S if call else chance.random() ** 2 * LATEST_S)


def _round(found: Kills, scene: Scene, folder: Path, chance: random.Random) -> None:
    kill = _Kill.drawn(chance)
    with Emulator(folder / "service") as service:
        for seed, (name, size_bytes) in enumerate(IMAGES.items()):
            service.add_synthetic(name, "toronto", size_bytes, seed)
        service.switches.saving_s = chance.choice((0.0, 0.2, 1.0))
        service.switches.rate_bytes_per_s = chance.choice((None, 32e6))
        mount = MortalMount(folder, service, scene.options)
        found.count += 1
        found.by_scene[scene.name] += 1
        found.at_calls += kill.call is not None
        where = f"kill {found.count}, {scene.name}, at {kill}"
        try:
            if scene.before:
                with mount.running():
                    mount.run(scene.before)
            found.while_mounting += not _strike(mount, scene, kill)
            found.broken += [f"{where}: {problem}" for problem in _afterwards(found, mount, scene)]
        except (subprocess.SubprocessError, OSError, Stuck) as error:
            found.broken.append(f"{where}: {type(error).__name__}: {error}")
        finally:
            mount.clear()


def _strike(mount: MortalMount, scene: Scene, kill: _Kill) -> bool:
    """Let the mount be at *scene* and kill it; whether it was mounted by then."""
    began_s = time.monotonic()
    process = mount.start(_wrapped(kill))
    try:
        wait_until(
            lambda: (
                mount_at(mount.root) is not None
                or process.poll() is not None
                or (scene.is_mounting and _is_due(kill, began_s))
            ),
            MOUNT_S,
        )
        if not scene.is_mounting:
            began_s = time.monotonic()
        was_mounted = mount_at(mount.root) is not None
        if was_mounted:
            with mount.program(scene.script) as program:
                while process.poll() is None and program.poll() is None and not _is_due(kill, began_s):
                    time.sleep(STEP_S)
                kill_all(process)
                program.wait(PROGRAM_S)
        return was_mounted
    finally:
        kill_all(process)
        process.wait(END_S)


def _is_due(kill: _Kill, began_s: float) -> bool:
    return kill.call is None and time.monotonic() > began_s + kill.after_s


def _wrapped(kill: _Kill) -> tuple[str, ...]:
    """What makes a process die at that call (strace(1), tampering)."""
    if kill.call is None:
        return ()
    strike = f"inject={kill.call}:signal=KILL:when={kill.number}"
    return (
        "strace",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "--seccomp-bpf",
        "-e",
        f"trace={kill.call}",
        "-e",
        strike,
    )


def _afterwards(found: Kills, mount: MortalMount, scene: Scene) -> Iterator[str]:
    """Mount again, and look at everything: sentences about what is not as it should be."""
    made = [place for place in mount.places() if place[0] != "toronto"]
    began_s = time.monotonic()
    with mount.running():
        found.next_mounts_s.append(time.monotonic() - began_s)
        ends = [sorted(places) for places in scene.ends(made)]
        if not wait_until(lambda: mount.places() in ends and mount.is_quiet(), SETTLE_S):
            yield f"{made} had begun, and in the end there is {mount.places()}"
        contents = {
            (image.region, image.name): mount.service.content(image.image_id).read_bytes()
            for image in mount.service.images()
        }
        for place, content in contents.items():
            path = mount.root.joinpath(*place)
            if not wait_until(
                lambda path=path, place=place: path.exists() or place not in mount.places(), SETTLE_S
            ):
                yield f"{path} is not shown"
            if place not in mount.places() and mount.places() in ends:
                continue  # a deletion that had to wait was carried out meanwhile
            # The service has it active; that the mount knows that is what sync waits for.
            read = mount.run(f'sync "{path}" && cat "{path}"')
            found.bytes_compared += len(read)
            if read != content:
                yield f"wrong bytes of {path}"
    if "Traceback" in mount.log:
        yield f"a bug in the log: {mount.log[mount.log.index('Traceback') :][:500]}"
