"""``scripts/chaos``: the command line of the fault campaign.

Exit status: 0 no promise was broken and every kind of fault struck; 1 something of that is not so; 2 wrong arguments;
130 interrupted.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import click

import command_line
from campaign import deck, report, scene
from campaign.deck import Dealt, Round
from campaign.rounds.interrupts import Silence
from campaign.scene import Scene
from campaign.soak import Soak
from campaign.subjects import Subject
from campaign.tally import Tally
from progress import Progress

FAULTS = 10_000
MINUTES = 45.0
SOAK_MINUTES = 30.0
SOAK_PAUSE_S = 1.0
PROGRAMS = ("cp", "dd", "getfattr", "mv", "strace", "umount")


class _Rounds(click.ParamType[tuple[Round, ...]]):
    name = "KIND,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Round, ...]:
        names = str(value).split(",")
        for name in names:
            if name not in deck.BY_NAME:
                self.fail(f"there is no {name!r}, only {', '.join(deck.BY_NAME)}.", param, ctx)
        return tuple(deck.BY_NAME[name] for name in names)


@click.command("chaos", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", type=int, help="Decides every choice. Default: a new one, which is printed.")
@click.option("--faults", type=click.IntRange(1), help=f"End when so many struck. Default: {FAULTS}.")
@click.option("--minutes", type=click.FloatRange(0.1), help="End after so long, whatever struck until then.")
@click.option(
    "--soak",
    is_flag=True,
    help="Half an hour with one mount, a fault every few seconds, and a look at what it holds.",
)
@click.option(
    "--rounds",
    "chosen",
    type=_Rounds(),
    default=",".join(deck.BY_NAME),
    help=f"Some kinds of rounds of {', '.join(deck.BY_NAME)}.",
)
@click.option(
    "--begin", type=click.IntRange(1), default=1, help="Begin with this round, as to see one again."
)
@click.option("--count", type=click.IntRange(1), help="End after so many rounds.")
@click.option("--once", is_flag=True, help="One round of each kind.")
@click.option(
    "--dir",
    "parent",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where everything temporary goes.",
)
def chaos(
    seed: int | None,
    faults: int | None,
    minutes: float | None,
    soak: bool,
    chosen: tuple[Round, ...],
    begin: int,
    count: int | None,
    once: bool,
    parent: Path | None,
) -> int:
    """Use a mount of the emulated service while faults strike, and look whether a promise breaks."""
    _require()
    if seed is None:
        seed = random.SystemRandom().randrange(10**6)
    if soak:
        chosen = tuple(kind for kind in chosen if kind.calm)
        minutes = minutes or SOAK_MINUTES
    if once:
        chosen = tuple(replace(kind, often=1) for kind in chosen)
        count = len(chosen)
    limits = report.Limits(
        faults=faults if faults or minutes or count else FAULTS,
        seconds=60 * (minutes or MINUTES),
        rounds=count,
        is_full=faults is None and minutes is None and count is None,
    )
    print(f"seed {seed}; again with: scripts/chaos --seed {seed}{report.arguments(sys.argv[1:])}", flush=True)
    tally = Tally()
    with _folder(parent, tally) as folder:
        return _run(folder, seed, tally, deck.deal(seed, chosen, begin), limits, chosen, soak=soak)


def _run(
    folder: Path,
    seed: int,
    tally: Tally,
    dealt: Iterator[Dealt],
    limits: report.Limits,
    chosen: Sequence[Round],
    *,
    soak: bool,
) -> int:
    began_s = time.monotonic()
    progress, held = Progress(), Soak()
    options = ("--cache-size", "64M")
    with (
        scene.made(folder, seed, tally, options) as made,
        Silence(folder, made.clock, tally) if _is_interrupting(chosen) else nullcontext(),
    ):
        one = next(dealt)
        images = one.images(made.subjects)
        while not limits.are_reached(tally, time.monotonic() - began_s):
            upcoming = next(dealt)
            next_images = upcoming.images(made.subjects)
            _play(made, one, images, progress)
            one, images = upcoming, next_images
            if soak:
                held.sample(made.daemon)
                time.sleep(SOAK_PAUSE_S)
        tally.begin("beside the others (never answered)")
    progress.end()
    tally.end()
    minutes = (time.monotonic() - began_s) / 60
    return report.print_all(tally, made.clock, limits, chosen, held if soak else None, minutes, folder)


def _is_interrupting(chosen: Sequence[Round]) -> bool:
    return any(kind.name == "interrupts" for kind in chosen)


def _play(made: Scene, one: Dealt, images: Sequence[Subject], progress: Progress) -> None:
    """Run one round; a break is told at once."""
    tally = made.tally
    progress.show(
        f"round {one.name:<22} {tally.total} faults of {len(tally.struck)} kinds, "
        f"{tally.figures['lost answers to changes']} lost answers, {len(tally.breaks)} broken"
    )
    tally.begin(one.name)
    round_began_s, struck_before = time.monotonic(), tally.total
    try:
        made.await_listed(images)
        one.round.run(made, one.rng("faults"), images)
    except Exception as error:
        tally.broken("the campaign itself", f"{type(error).__name__}: {error}")
        progress.say(report.traceback_of(error))
    made.peace()
    made.ensure_alive()
    made.discard_later(images)
    for found in tally.end():
        progress.say(report.told(found, made.seed, one))
    tally.figures["rounds"] += 1
    pace = (time.monotonic() - round_began_s, tally.total - struck_before)
    tally.paces.setdefault(one.round.name, []).append(pace)


@contextmanager
def _folder(parent: Path | None, tally: Tally) -> Iterator[Path]:
    """A folder for everything, which is kept where a promise was broken."""
    folder = Path(tempfile.mkdtemp(prefix="imagefs-chaos-", dir=parent)).resolve()
    try:
        yield folder
    finally:
        if tally.breaks:
            report.keep_logs(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _require() -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise click.ClickException(f"Missing here: {', '.join(missing)}; run scripts/setup --dev.")
    if os.geteuid() != 0:
        raise click.ClickException(
            "Only root may mount small disks and trace the mount's process; run this as root."
        )


if __name__ == "__main__":
    status = command_line.run(chaos, "scripts/chaos")
    sys.stdout.flush()
    # Threads that the kernel holds must not keep a campaign from ending that has told its breaks.
    os._exit(status)
