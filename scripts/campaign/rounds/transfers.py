"""Rounds in which transfers of content, and the details before them, are struck by service and network."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from campaign import proxy_effects
from campaign.proxy import Strike
from campaign.scene import Scene, readings
from campaign.subjects import BLOCK, KIB, Subject, Subjects
from imagefs.emulator import Fault

SERVERS: Final = (
    {"range": True, "framing": "length"},
    {"range": True, "framing": "chunked"},
    {"range": False, "framing": "length"},
    {"range": False, "framing": "chunked"},
    {"range": False, "framing": "close"},
)

READ_ON_S: Final = 8.0
SLOW_ROUNDS: Final = 0.15

ROTTEN: Final = frozenset({"corrupt_byte", "other_image", "fields", "wrong_types"})
"""Faults of the service that only the MD5 of the whole can tell; the last two are lies about size or checksum."""

Choice = Callable[[random.Random, Subject, Scene], Fault]

CONTENT: Final[dict[str, Choice]] = {
    "status": lambda rng, subject, _: Fault(
        "status",
        image_id=subject.image_id,
        status=rng.choice((429, 500, 502, 503, 504)),
        retry_after=rng.choice((None, "0", "1")),
    ),
    "redirect": lambda _, subject, __: Fault(
        "redirect", image_id=subject.image_id, value="http://127.0.0.1:1/"
    ),
    "html": lambda rng, subject, _: Fault(
        "html", image_id=subject.image_id, status=rng.choice((200, 404, 502))
    ),
    "refused": lambda _, subject, __: Fault("refused", image_id=subject.image_id, value="try again later"),
    "delayed": lambda rng, subject, _: Fault(
        "delayed", image_id=subject.image_id, value=rng.uniform(0.1, 1.0)
    ),
    "length_wrong": lambda rng, subject, _: Fault(
        "length_wrong", image_id=subject.image_id, value=rng.choice((-1, 1, -1000, 1000, 10**15))
    ),
    "trailing_bytes": lambda rng, subject, _: Fault(
        "trailing_bytes", image_id=subject.image_id, value=rng.choice((1, 1000, BLOCK))
    ),
    "other_image": lambda _, subject, scene: Fault(
        "other_image", image_id=subject.image_id, value=scene.donor.image_id
    ),
    "trickle": lambda rng, subject, _: Fault(
        "trickle", image_id=subject.image_id, after_bytes=place(rng, subject), value=400_000.0
    ),
}
"""Faults of content that need more than an image and a place."""

PLACED: Final = ("reset", "close", "unasked_206", "corrupt_byte")
PLAIN: Final = (
    *("gzip", "wrong_content_range", "range_ignored", "no_length", "json_content", "html_content", "interim"),
    *("garbage_status_line", "header_flood"),
)

DETAILS: Final[dict[str, Choice]] = {
    "status": lambda rng, subject, _: Fault(
        "status", "details", subject.image_id, status=rng.choice((429, 503))
    ),
    "html": lambda _, subject, __: Fault("html", "details", subject.image_id),
    "refused": lambda _, subject, __: Fault("refused", "details", subject.image_id, value="invalid image"),
    "reset": lambda _, subject, __: Fault("reset", "details", subject.image_id, after_bytes=20),
    "truncated_json": lambda _, subject, __: Fault("truncated_json", "details", subject.image_id),
    "huge_json": lambda _, subject, __: Fault("huge_json", "details", subject.image_id, value=3 << 20),
    "deep_json": lambda _, subject, __: Fault("deep_json", "details", subject.image_id, value=20_000),
    "success_missing": lambda _, subject, __: Fault("success_missing", "details", subject.image_id),
    "fields": lambda rng, subject, _: Fault(
        "fields",
        "details",
        subject.image_id,
        value=rng.choice(
            (
                {"size": "-5"},
                {"size": "1e999"},
                {"size": "9" * 30},
                {"size": "100"},
                {"checksum": "0" * 32},
                {"checksum": "nonsense"},
                {"status": "never heard of"},
                {"name": "\x1b[2J/../\x00"},
            )
        ),
    ),
    "fields_missing": lambda rng, subject, _: Fault(
        "fields_missing", "details", subject.image_id, value=rng.choice((["size"], ["status"], None))
    ),
    "nan_size": lambda _, subject, __: Fault("nan_size", "details", subject.image_id),
    "wrong_types": lambda _, subject, __: Fault("wrong_types", "details", subject.image_id),
}

SLOW: Final = ("net: flipped bit", "net: swallowed bytes")
"""After these, the mount often waits for bytes that never come: half a minute. Only some rounds have them."""

NETWORK: Final = tuple(
    kind for kind in proxy_effects.ANSWERING if kind not in ("net: silence", "net: leftover bytes", *SLOW)
)

KINDS: Final = (
    *(f"service: {kind}" for kind in {*CONTENT, *PLACED, *PLAIN, *DETAILS}),
    *NETWORK,
    *SLOW,
    "net: leftover bytes",
    "net: request slow",
    "net: request lost",
)


def place(rng: random.Random, subject: Subject) -> int:
    """A byte of the content: often near its beginning or a border of blocks, else anywhere."""
    size = len(subject.content)
    chosen = rng.choice((0, 1, rng.randrange(3000), BLOCK, BLOCK - 1, BLOCK + 1, rng.randrange(size)))
    return min(chosen, size - 1)


def strike_content(scene: Scene, rng: random.Random, subject: Subject, kinds: Sequence[str]) -> None:
    """Plan one fault for the next transfer of *subject*: of the service, or of *kinds* of the network.

    The bytes of one whose details may come without a checksum are not altered: nobody could tell.
    """
    services: Sequence[str] = (*CONTENT, *PLACED, *PLAIN)
    if not {"fields", "fields_missing"}.isdisjoint(subject.kinds):
        services = [kind for kind in services if kind not in ROTTEN]
        kinds = [kind for kind in kinds if kind not in proxy_effects.ROTTEN]
    if rng.random() < 0.5:
        kind = rng.choice(services)
        if kind in CONTENT:
            fault = CONTENT[kind](rng, subject, scene)
        elif kind in PLACED:
            fault = Fault(kind, image_id=subject.image_id, after_bytes=place(rng, subject))
        else:
            fault = Fault(kind, "retrieve", subject.image_id)
        subject.rotten |= kind in ROTTEN
        scene.fault(subject, fault)
        return
    kind = rng.choice((*kinds, "net: request slow", "net: request lost"))
    at = 0 if kind in proxy_effects.AT_START else rng.choice((rng.randrange(250), 250 + place(rng, subject)))
    seconds = rng.uniform(0.2, 1.5)
    scene.strike(subject, Strike(kind, "retrieve", subject.image_id, at, seconds))


def strike_details(scene: Scene, rng: random.Random, subject: Subject) -> None:
    """Plan one fault for the next look at the details of *subject*."""
    if rng.random() < 0.75:
        kind = rng.choice(tuple(DETAILS))
        subject.rotten |= kind in ROTTEN
        scene.fault(subject, DETAILS[kind](rng, subject, scene))
        return
    kind = rng.choice(
        ("net: reset", "net: close", "net: leftover bytes", "net: fragments", "net: unasked 1xx")
    )
    at = 0 if kind in ("net: leftover bytes", "net: unasked 1xx") else rng.randrange(300)
    scene.strike(subject, Strike(kind, "details", subject.image_id, at))


def images(subjects: Subjects, rng: random.Random) -> list[Subject]:
    """Some thirty of all sizes."""
    return subjects.make_some(rng, 32, 8)


def run(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """Images of all sizes are read in all ways, each struck a few times."""
    scene.emulator.switches.turn(rng.choice(SERVERS))
    if rng.random() < 0.2:
        scene.emulator.switches.rate_bytes_per_s = 4096 * KIB
    kinds = (*NETWORK, *SLOW) if rng.random() < SLOW_ROUNDS else NETWORK
    for number, subject in enumerate(images):
        if number % 3 == 0:
            strike_details(scene, rng, subject)
        for _ in range(rng.randint(2, 6)):
            strike_content(scene, rng, subject, kinds)
    seeds = [rng.random() for _ in images]
    scene.all_at_once([partial(_read_on, scene, *pair) for pair in zip(images, seeds, strict=True)])
    scene.peace()
    scene.must_read([subject for subject in images[1:] if not subject.rotten][:2], "faults pass")


def _read_on(scene: Scene, subject: Subject, seed: float) -> None:
    """Read *subject* until it was had whole a few times, or for a while: each error uses up a fault or two."""
    rng = random.Random(seed)
    give_up_s = time.monotonic() + READ_ON_S
    good = 0
    while good < 2 and time.monotonic() < give_up_s:
        witnesses = scene.read_together(readings(rng, [subject] * rng.randint(1, 3)), parallel=3)
        good += any(witness.is_whole and witness.error is None for witness in witnesses)
        if not good:
            time.sleep(0.1)
