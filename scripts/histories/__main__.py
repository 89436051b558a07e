"""``scripts/model``: arguments, several histories side by side, the table at the end.

Exit status: 0 every history ended as the model says; 1 one broke; 2 wrong arguments; 130 interrupted.
"""

from __future__ import annotations

import math
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice

import click

import command_line
from histories.history import Past, live
from progress import Progress, table

STEPS = 100_000
STEPS_A_HISTORY = 200


@click.command("model", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--steps", type=click.IntRange(1), default=STEPS, show_default=True, help="How many in all.")
@click.option(
    "--each", type=click.IntRange(1), default=STEPS_A_HISTORY, show_default=True, help="In a history."
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Of the first history; the next has the next."
)
@click.option(
    "--processes", type=click.IntRange(1), default=2, show_default=True, help="Histories side by side."
)
@click.option("--minutes", type=click.FloatRange(0.1), help="Begin no history after so long.")
def model(steps: int, each: int, seed: int, processes: int, minutes: float | None) -> int:
    """Take random steps on mounts of an account, and hold each against a plain model of the account."""
    began_s = time.monotonic()
    ends_s = began_s + minutes * 60 if minutes is not None else math.inf
    pasts: list[Past] = []
    try:
        _live_all(pasts, iter(range(seed, seed - (-steps // each))), each, processes, ends_s)
    finally:
        print(_report(pasts, time.monotonic() - began_s))
    return 1 if _broken(pasts) else 0


def _live_all(pasts: list[Past], seeds: Iterator[int], each: int, processes: int, ends_s: float) -> None:
    """Live the histories of *seeds*, and put what came of them into *pasts*; none begins after *ends_s*."""
    progress = Progress()
    under_way: set[Future[Past]] = set()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        while True:
            due = processes - len(under_way) if time.monotonic() < ends_s else 0
            under_way |= {pool.submit(live, number, each) for number in islice(seeds, due)}
            if not under_way:
                break
            over, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for past in map(Future.result, over):
                pasts.append(past)
                if past.broken is not None:
                    progress.say(f"\n--- history {past.seed} broke:\n{past.broken}")
            taken = sum(past.steps.total() for past in pasts)
            progress.show(f"{taken} steps in {len(pasts)} histories, {len(_broken(pasts))} broken")
    progress.end()


def _broken(pasts: list[Past]) -> list[int]:
    return [past.seed for past in pasts if past.broken is not None]


def _report(pasts: list[Past], took_s: float) -> str:
    steps, seconds, struck = Counter[str](), Counter[str](), Counter[str]()
    for past in pasts:
        steps.update(past.steps)
        seconds.update(past.seconds)
        struck.update(past.struck)
    broken = _broken(pasts)
    rows: dict[str, object] = {
        "steps": f"{steps.total()} in {len(pasts)} histories and {took_s / 60:.1f} minutes"
    }
    for kind, number in sorted(steps.items()):
        rows[f"  {kind}"] = f"{number:6}, {1000 * seconds[kind] / number:.0f} ms each"
    rows["faults"] = struck.total()
    rows |= {f"  {kind}": f"{number:6}" for kind, number in sorted(struck.items())}
    rows["histories broken"] = f"{len(broken)} {broken or ''}"
    return table(rows)


if __name__ == "__main__":
    sys.exit(command_line.run(model, "scripts/model"))
