"""Rounds in which the account is changed, and answers are lost, delayed, refused and cut; and some with kills.

What the account holds afterwards is compared with what was asked for.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

from campaign import changers
from campaign.changers import Accounts, Change
from campaign.proxy import CHANGES, Strike
from campaign.scene import Scene
from campaign.subjects import KIB, Subject, Subjects
from imagefs.emulator import Fault

REGIONS: Final = ("toronto", "montreal", "roubaix")
CONTROLS: Final = frozenset((region, ".fetch") for region in REGIONS)
TREE_S: Final = 60.0
SETTLED_S: Final = 150.0
"""So long after the last fault everything is as it must be: pending images are looked at every 30 s at the latest."""

FIRST_CALL: Final = {
    "rename": "rename",
    "delete": "delete",
    "fetch": "fetch",
    **dict.fromkeys(("move", *changers.COPIES), "replicate"),
}
"""The call of the service that each change begins with."""

LOSING: Final = ("answer_lost", "reset", "close", "garbage_status_line", "truncated_json", "html_content")
"""Faults of the service after which nobody has an answer that can be used, though the change was carried out."""

LOST: Final = frozenset(f"fault: {kind}" for kind in LOSING)

HARMLESS: Final = ("delayed", "interim", "success_missing")
REFUSING: Final = ("status", "html", "redirect", "refused")
WRECKING: Final = ("replica_killed", "replica_checksum", "replica_size")
LISTING: Final = (
    *("status", "reset", "close", "truncated_json", "html", "garbage_status_line", "deep_json", "huge_json"),
    *(
        "list_cut",
        "list_empty",
        "list_doubled",
        "success_missing",
        "wrong_types",
        "fields_missing",
        "delayed",
    ),
    "interim",
)
NETWORK: Final = (
    *(
        "net: reset",
        "net: close",
        "net: half-close",
        "net: garbage bytes",
        "net: request cut",
        "net: request lost",
    ),
    *(
        "net: request slow",
        "net: trickle",
        "net: fragments",
        "net: unasked 1xx",
        "net: stall",
        "net: leftover bytes",
    ),
)
KINDS: Final = (
    *(f"service: {kind}" for kind in {*LOSING, *HARMLESS, *REFUSING, *WRECKING, *LISTING}),
    *NETWORK,
)
KILL_KINDS: Final = ("machine: SIGKILL during changes",)


def images(subjects: Subjects, rng: random.Random) -> list[Subject]:
    """Forty, each to be changed."""
    return [subjects.make(rng.randint(1, 300 * KIB)) for _ in range(40)]


def few_images(subjects: Subjects, rng: random.Random) -> list[Subject]:
    """A few, each to be changed."""
    return [subjects.make(rng.randint(1, 300 * KIB)) for _ in range(8)]


def run(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """Each image is changed; most changes are struck, and a few listings."""
    _change_all(scene, rng, images, kill=False)


def run_killed(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """The same, and the mount's process is killed in the middle."""
    _change_all(scene, rng, images, kill=True)


def _change_all(scene: Scene, rng: random.Random, images: Sequence[Subject], *, kill: bool) -> None:
    accounts = Accounts(scene.emulator.images)
    scene.emulator.ledger.clear()
    lost_before = scene.proxy.lost_answers
    changes = [_change(scene, rng, subject, number) for number, subject in enumerate(images)]
    scene.emulator.switches.turn(
        {"saving_s": rng.choice((0.1, 0.3, 1.0)), "pending_changes": rng.random() < 0.7}
    )
    for change in changes:
        _strike(scene, rng, change)
    for _ in range(rng.randint(2, 5)):
        _strike_listing(scene, rng)
    jobs = [partial(changers.carry_out, scene.daemon.root, change, scene.clock) for change in changes]
    if kill:
        jobs.append(partial(_kill, scene, rng.uniform(0.0, 1.2)))
    scene.all_at_once(jobs)
    scene.tally.figures["changes"] += len(changes)
    scene.tally.figures["changes that said they failed"] += sum(change.status != 0 for change in changes)
    scene.peace()
    if kill:
        scene.daemon.clear_away()
        scene.mount()
    _settle(scene, accounts, changes)
    lost = sum(call.action in CHANGES and call.outcome in LOST for call in scene.emulator.ledger.calls)
    scene.tally.figures["lost answers to changes"] += lost + scene.proxy.lost_answers - lost_before
    _keep(scene, changes)


def _keep(scene: Scene, changes: Sequence[Change]) -> None:
    """Look at those of the round before once more, which may have been harmed late, and keep these for the next."""
    _look_for_harm(scene, Accounts(scene.emulator.images), scene.kept)
    for change in scene.kept:
        scene.subjects.discard(change.subject)
    scene.kept = list(changes)


def _change(scene: Scene, rng: random.Random, subject: Subject, number: int) -> Change:
    kind = rng.choice(tuple(changers.COMMANDS))
    if kind == "fetch":
        name = f"fetched-{rng.randrange(10**9)}-{number}"
        url = f"{scene.emulator.root_url}content/{scene.donor.image_id}"
        region = rng.choice(("toronto", "montreal"))
        return Change(kind, Subject("", name, region, [b""]), (region, f"{name}.iso"), url=url)
    return changers.some(rng, kind, subject, number)


def _strike(scene: Scene, rng: random.Random, change: Change) -> None:
    """Plan up to two faults for the calls of *change*."""
    action = FIRST_CALL[change.kind]
    image_id = change.subject.image_id or None
    if change.kind != "fetch" and action == "replicate" and rng.random() < 0.15:
        change.wrecked = True
        scene.fault(change.subject, Fault(rng.choice(WRECKING), "replicate", image_id))
        return
    for _ in range(rng.choice((0, 1, 1, 1, 2))):
        chosen = rng.random()
        if chosen < 0.35:
            fault = Fault(rng.choice(LOSING), action, image_id, after_bytes=rng.randrange(15))
        elif chosen < 0.45:
            fault = Fault(rng.choice(HARMLESS), action, image_id, value=rng.uniform(0.1, 1.0))
        elif chosen < 0.55:
            kind = rng.choice(REFUSING)
            fault = Fault(
                kind, action, image_id, value="http://127.0.0.1:1/", status=503 if kind == "status" else None
            )
        else:
            kind, at = rng.choice(NETWORK), rng.randrange(200)
            at = 0 if kind in ("net: garbage bytes", "net: unasked 1xx", "net: leftover bytes") else at
            scene.strike(None, Strike(kind, action, image_id, at, rng.uniform(0.2, 2.0)))
            continue
        scene.fault(change.subject, fault)
    if change.kind != "delete" and action == "replicate" and rng.random() < 0.3:
        later = "delete" if change.kind == "move" and rng.random() < 0.5 else "rename"
        scene.strike(None, Strike("net: reset", later, None, rng.randrange(100)))


def _strike_listing(scene: Scene, rng: random.Random) -> None:
    kind = rng.choice(LISTING)
    value = {"huge_json": 40 << 20, "delayed": 0.5}.get(kind)
    status = 503 if kind == "status" else None
    scene.fault(None, Fault(kind, "list", after_bytes=rng.randrange(1000), value=value, status=status))


def _kill(scene: Scene, pause_s: float) -> None:
    time.sleep(pause_s)
    scene.daemon.send(signal.SIGKILL)
    scene.tally.strike("machine: SIGKILL during changes")
    scene.tally.figures["SIGKILLs"] += 1


def _settle(scene: Scene, accounts: Accounts, changes: Sequence[Change]) -> None:
    """Wait until all is as it must be; at no time is an image lost or made twice."""
    give_up_s = time.monotonic() + SETTLED_S
    open_changes = list(changes)
    while open_changes and time.monotonic() < give_up_s:
        if _look_for_harm(scene, accounts, changes):
            return
        open_changes = [change for change in open_changes if accounts.unsettled(change) is not None]
        time.sleep(0.1)
    for change in open_changes:
        scene.tally.broken("a change is done or not done", f"{change}: {accounts.unsettled(change)}")
    _compare_tree(scene)


def _look_for_harm(scene: Scene, accounts: Accounts, changes: Sequence[Change]) -> bool:
    """Tell the tally of every image that is lost or doubled."""
    harms = [harm for change in changes if (harm := accounts.harm(change)) is not None]
    for promise, how in harms:
        scene.tally.broken(promise, how)
    return bool(harms)


def _compare_tree(scene: Scene) -> None:
    """The tree shows what the account holds, or does so within the lifetime of a listing."""
    give_up_s = time.monotonic() + TREE_S
    while True:
        held = {(image.region, image.name) for image in scene.emulator.images() if image.region in REGIONS}
        shown = {(region, name) for region in REGIONS for name in scene.names(region)} - CONTROLS
        if held == shown:
            return
        if time.monotonic() > give_up_s:
            scene.tally.broken(
                "the tree shows the account",
                f"shown only: {shown - held}; in the account only: {held - shown}",
            )
            return
        time.sleep(0.2)
