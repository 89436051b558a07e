"""Rounds in which the whole service or network goes away, comes back, and changes its ways while images are read."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from campaign.scene import Scene, readings
from campaign.subjects import BLOCK, KIB, Subject, Subjects

Event = Callable[[Scene, random.Random], None]


def _restart(scene: Scene, rng: random.Random) -> None:
    scene.emulator.stop()
    time.sleep(rng.uniform(0.0, 1.0))
    scene.emulator.start()


def _network_down(scene: Scene, rng: random.Random) -> None:
    scene.proxy.down()
    time.sleep(rng.uniform(0.1, 1.5))
    scene.proxy.up()


def _cut_all(scene: Scene, _: random.Random) -> None:
    scene.proxy.cut_all()


def _toggle_range(scene: Scene, _: random.Random) -> None:
    scene.emulator.switches.range = not scene.emulator.switches.range


def _toggle_framing(scene: Scene, rng: random.Random) -> None:
    framings = ["length", "chunked", *(() if scene.emulator.switches.range else ("close",))]
    scene.emulator.switches.framing = rng.choice(framings)


def _clock_off(scene: Scene, rng: random.Random) -> None:
    scene.emulator.switches.clock_offset_s = rng.choice((-100_000.0, 4000.0))
    time.sleep(rng.uniform(0.1, 0.5))
    scene.emulator.switches.clock_offset_s = 0.0


def _rate_limit(scene: Scene, rng: random.Random) -> None:
    scene.emulator.switches.turn({"rate_limit_per_s": 5.0, "retry_after": rng.choice((None, "1"))})
    time.sleep(rng.uniform(0.3, 1.0))
    scene.emulator.switches.rate_limit_per_s = None


def _few_connections(scene: Scene, rng: random.Random) -> None:
    scene.emulator.switches.max_connections = rng.randint(1, 3)
    time.sleep(rng.uniform(0.3, 1.0))
    scene.emulator.switches.max_connections = None


def _unique_nonce(scene: Scene, rng: random.Random) -> None:
    scene.emulator.switches.unique_nonce = True
    time.sleep(rng.uniform(0.3, 1.0))
    scene.emulator.switches.unique_nonce = False


def _latency(scene: Scene, rng: random.Random) -> None:
    scene.emulator.switches.latency_s = rng.uniform(0.1, 0.8)
    time.sleep(rng.uniform(0.2, 1.0))
    scene.emulator.switches.latency_s = 0.0


def _refuse_form(scene: Scene, rng: random.Random) -> None:
    scene.emulator.switches.refuse_form = rng.choice(("401", "403", "json"))


EVENTS: Final[dict[str, Event]] = {
    "whole: service restarted": _restart,
    "whole: network down": _network_down,
    "whole: all connections reset": _cut_all,
    "whole: Range toggled": _toggle_range,
    "whole: framing toggled": _toggle_framing,
    "whole: clock off": _clock_off,
    "whole: rate limit": _rate_limit,
    "whole: few connections": _few_connections,
    "whole: nonces once": _unique_nonce,
    "whole: latency": _latency,
    "whole: form of refusals": _refuse_form,
}
KINDS: Final = tuple(EVENTS)


def images(subjects: Subjects, rng: random.Random) -> list[Subject]:
    """A few that take a while at the rate of these rounds."""
    return [subjects.make(rng.randint(4, 10) * BLOCK + rng.randint(0, BLOCK)) for _ in range(8)]


def run(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """While images come slowly, a few things happen to all connections at once."""
    scene.emulator.switches.turn({"rate_bytes_per_s": 600 * KIB, "range": rng.random() < 0.5})
    readers = readings(rng, images)
    done = threading.Event()

    def happen(own: random.Random) -> None:
        while not done.is_set():
            kind = own.choice(KINDS)
            EVENTS[kind](scene, own)
            scene.tally.strike(kind)
            done.wait(own.uniform(0.05, 0.3))

    happening = threading.Thread(target=happen, args=(random.Random(rng.random()),))
    happening.start()
    try:
        scene.read_together(readers)
    finally:
        done.set()
        happening.join()
    scene.peace()
    scene.must_read(images, "faults pass")
