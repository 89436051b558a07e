"""What a campaign prints: the table, the figures, and every break with how to see it again."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from campaign.clock import DEADLINES_S, STALL_S, CallClock
from campaign.deck import Dealt, Round
from campaign.rounds.interrupts import SILENCE_KINDS
from campaign.soak import Soak
from campaign.tally import Break, Tally

LEAST_KINDS: Final = 25
LEAST_LOST: Final = 500
"""What a full campaign must reach."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a campaign ends, and whether it is a full one: then every kind of fault must have struck."""

    faults: int | None
    seconds: float
    rounds: int | None
    is_full: bool

    def are_reached(self, tally: Tally, seconds: float) -> bool:
        """Whether no further round begins."""
        if seconds >= self.seconds:
            return True
        if self.rounds is not None:
            return tally.figures["rounds"] >= self.rounds
        enough = self.faults is not None and tally.total >= self.faults
        return enough and not (self.is_full and tally.figures["lost answers to changes"] < LEAST_LOST)


def arguments(given: Sequence[str]) -> str:
    """The arguments that were given, but for the seed."""
    kept, skip = [], False
    for word in given:
        if not skip and word != "--seed" and not word.startswith("--seed="):
            kept.append(word)
        skip = word == "--seed"
    return "".join(f" {word}" for word in kept)


def told(found: Break, seed: int, one: Dealt) -> str:
    """A break, with how to run its round again."""
    return (
        f"BROKEN: {found.promise}: {found.how}\n"
        f"    in round {found.round_name}; again with: scripts/chaos --seed {seed} --begin {one.number} --count 1"
    )


def traceback_of(error: BaseException) -> str:
    """The traceback of a bug in the campaign."""
    return "".join(traceback.format_exception(error)).rstrip()


def keep_logs(folder: Path) -> None:
    """Leave logs and cache in *folder*, and not the service's images, which the seed makes again."""
    for service in ("service/content", "silent-service/content"):
        shutil.rmtree(folder / service, ignore_errors=True)


def print_all(
    tally: Tally,
    clock: CallClock,
    limits: Limits,
    chosen: Sequence[Round],
    soak: Soak | None,
    minutes: float,
    folder: Path,
) -> int:
    """Print everything; the exit status."""
    problems = [f"{len(tally.breaks)} times a promise was broken"] if tally.breaks else []
    if limits.is_full:
        tally.plan(kind for one in chosen for kind in one.kinds)
        tally.plan(SILENCE_KINDS if any(one.name == "interrupts" for one in chosen) else ())
        problems += [f"{kind} never struck" for kind in tally.missing]
        if tally.figures["lost answers to changes"] < LEAST_LOST and any(
            one.name == "changes" for one in chosen
        ):
            problems.append(f"only {tally.figures['lost answers to changes']} answers to changes were lost")
    if limits.faults is not None and tally.total < limits.faults:
        problems.append(f"only {tally.total} of {limits.faults} faults struck in {minutes:.0f} minutes")
    if soak is not None:
        problems += soak.problems() + stall_problems(clock)
    print(tally.table())
    print()
    print("\n".join(_figures(tally, clock, minutes)))
    if soak is not None:
        print("\n".join(soak.lines()))
    for found in tally.breaks:
        print(f"BROKEN in round {found.round_name}: {found.promise}: {found.how}")
        print(f"    struck there: {', '.join(found.kinds)}")
    if tally.breaks:
        print(f"The logs are in {folder}.")
    print("; ".join(problems) if problems else "No promise was broken.", flush=True)
    return int(bool(problems))


def stall_problems(clock: CallClock) -> list[str]:
    """Calls that were not answered for longer than any may be in a soak."""
    return [
        f"a call was not answered for {seconds:.1f} s of {STALL_S + extra_s:.0f}"
        for extra_s, (seconds, _) in sorted(clock.stalls.items())
        if seconds > STALL_S + extra_s
    ]


def _figures(tally: Tally, clock: CallClock, minutes: float) -> list[str]:
    kinds = sum(times > 0 for times in tally.struck.values())
    promises = [found.promise for found in tally.breaks]
    lines = [
        f"{tally.total} faults of {kinds} kinds in {tally.figures['rounds']} rounds and {minutes:.1f} minutes",
        f"lost images: {promises.count('never a lost image')}; "
        f"doubled images: {promises.count('never a second image')}; "
        f"wrong bytes: {promises.count('never a wrong byte')}; calls past their deadline: "
        f"{promises.count('never a hang')}",
        "; ".join(f"{name}: {value}" for name, value in sorted(tally.figures.items()) if name != "rounds"),
        *_times(clock),
    ]
    for name, paces in sorted(tally.paces.items()):
        seconds, faults = (sum(column) / len(paces) for column in zip(*paces, strict=True))
        lines.append(f"rounds {name}: {len(paces)}, {seconds:.1f} s and {faults:.0f} faults each")
    for name, ratios in sorted(tally.ratios.items()):
        lines.append(f"{name}: {max(ratios):.3f} at most, {sum(ratios) / len(ratios):.3f} on average")
    return lines


def _times(clock: CallClock) -> list[str]:
    lines = [f"calls timed: {clock.calls}, and {clock.programs} programs; the longest call, of theirs too:"]
    for kind, (seconds, what) in sorted(clock.longest.items()):
        lines.append(f"    {kind:<10} {seconds:6.1f} s of {DEADLINES_S[kind]:.0f}: {what}")
    lines.append("the longest program in all, which is any number of calls:")
    for kind, (seconds, what) in sorted(clock.longest_programs.items()):
        lines.append(f"    {kind:<10} {seconds:6.1f} s: {what}")
    for extra_s, (seconds, what) in sorted(clock.stalls.items()):
        granted = f", {extra_s:.0f} of them for what is done to it" if extra_s else ""
        lines.append(f"longest stall: {seconds:.1f} s of {STALL_S + extra_s:.0f}{granted}: {what}")
    return lines
