"""A round with 64 readers of 16 cold images under faults: all bytes right, and hardly one fetched twice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from campaign.proxy import Strike
from campaign.scene import Scene, readings
from campaign.subjects import BLOCK, Subject, Subjects
from imagefs.emulator import Fault

IMAGES: Final = 16
READERS_EACH: Final = 4
MOST: Final = 1.05
"""So much of the sizes is fetched at most where no connection is cut."""

GENTLE: Final = ("net: delay", "net: fragments", "net: request slow", "net: stall", "net: trickle")
CUTTING: Final = ("net: reset", "net: close", "net: request lost")
KINDS: Final = GENTLE


def images(subjects: Subjects, rng: random.Random) -> list[Subject]:
    """Sixteen, and as many again."""
    return [subjects.make(rng.randint(3, 8) * BLOCK + rng.randint(1, BLOCK)) for _ in range(2 * IMAGES)]


def run(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """Gentle faults first, where the bytes are counted; then with connections that are cut."""
    _read(scene, rng, images[:IMAGES], cut=False)
    _read(scene, rng, images[IMAGES:], cut=True)


def _read(scene: Scene, rng: random.Random, images: Sequence[Subject], *, cut: bool) -> None:
    scene.emulator.ledger.clear()
    for subject in images:
        for _ in range(2):
            kind = rng.choice((*GENTLE, *CUTTING) if cut else GENTLE)
            at = 0 if kind == "net: delay" else rng.randrange(len(subject.content))
            scene.strike(subject, Strike(kind, "retrieve", subject.image_id, at, rng.uniform(0.1, 0.5)))
        scene.fault(subject, Fault("delayed", "retrieve", subject.image_id, value=rng.uniform(0.0, 0.3)))
    shapes = ("sequential", "shuffled", "direct", "sendfile", "cat")
    witnesses = scene.read_together(
        readings(rng, list(images) * READERS_EACH, shapes), parallel=IMAGES * READERS_EACH
    )
    scene.peace()
    wanted = sum(len(subject.content) for subject in images)
    fetched = sum(scene.emulator.ledger.bytes_retrieved(subject.image_id) for subject in images)
    name = "crowd, connections cut" if cut else "crowd, none cut"
    ratios = scene.tally.ratios.setdefault(f"{name}: fetched of the sizes", [])
    ratios.append(fetched / wanted)
    for witness in witnesses:
        if witness.error is not None:
            scene.tally.broken(
                "all bytes for everybody", f"{witness.shape} of {witness.subject}: {witness.error}"
            )
    if not cut and fetched > MOST * wanted:
        scene.tally.broken("every byte over the network once", f"{fetched} of {wanted} bytes were fetched")
