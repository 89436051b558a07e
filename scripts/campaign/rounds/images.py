"""Rounds in which images are replaced, removed, renamed and withdrawn behind the mount's back while they are read."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from campaign.scene import Scene, readings
from campaign.subjects import BLOCK, KIB, Subject, Subjects

Happening = Callable[[Scene, random.Random, Subject], None]


def _replace(scene: Scene, rng: random.Random, subject: Subject) -> None:
    same = rng.random() < 0.5
    scene.subjects.change(subject, len(subject.content) if same else rng.randint(1, 8 * BLOCK))


def _remove(scene: Scene, _: random.Random, subject: Subject) -> None:
    scene.subjects.remove(subject)


def _rename(scene: Scene, rng: random.Random, subject: Subject) -> None:
    if not subject.vanished:
        scene.emulator.rename_image(subject.image_id, f"{subject.name}.renamed{rng.randrange(1000)}")


def _withdraw(scene: Scene, rng: random.Random, subject: Subject) -> None:
    if not subject.vanished:
        scene.emulator.set_status(subject.image_id, rng.choice(("killed", "saving", "error")))


HAPPENINGS: Final[dict[str, Happening]] = {
    "account: image replaced": _replace,
    "account: image removed": _remove,
    "account: image renamed": _rename,
    "account: image withdrawn": _withdraw,
}
KINDS: Final = tuple(HAPPENINGS)


def images(subjects: Subjects, rng: random.Random) -> list[Subject]:
    """A few that take a while at the rate of these rounds."""
    return [subjects.make(rng.randint(2, 8) * BLOCK + rng.randint(0, BLOCK)) for _ in range(10)]


def run(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """A reader gets one version from its beginning to its end, or an error."""
    scene.emulator.switches.turn({"rate_bytes_per_s": 1024 * KIB, "range": rng.random() < 0.6})

    def happen(own: random.Random) -> None:
        for subject in images:
            time.sleep(own.uniform(0.0, 0.25))
            kind = own.choice(KINDS)
            HAPPENINGS[kind](scene, own, subject)
            scene.tally.strike(kind)

    happening = threading.Thread(target=happen, args=(random.Random(rng.random()),))
    happening.start()
    shapes = ("sequential", "random", "shuffled", "direct", "sendfile", "cat")
    scene.read_together(readings(rng, [*images, *images], shapes))
    happening.join()
    scene.read_together(readings(rng, images, ("cat",)))
    scene.peace()
