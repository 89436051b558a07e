"""``scripts/crash``: arguments, and the table at the end.

Exit status: 0 all promises were kept; 1 one broke, or it could not be tried; 2 wrong arguments; 130 interrupted.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import click

import command_line
from crashes import flips, kills, losses
from crashes.flips import Flips
from crashes.kills import Kills
from crashes.losses import Losses, RecordingFailed
from crashes.strace_log import NotUnderstood
from progress import table

MOST_SHOWN = 20
FAILURES = (RecordingFailed, NotUnderstood, subprocess.SubprocessError, OSError)

_seed = click.option("--seed", type=int, default=1, show_default=True, help="What the chances come from.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def crash() -> None:
    """Crash imagefs in every way, many times, and see that no promise breaks."""


@crash.command("losses")
@click.option("--count", type=click.IntRange(1), default=2000, show_default=True, help="How many.")
@_seed
@click.option(
    "--mount-every", type=click.IntRange(0), default=100, show_default=True, help="Mount every Nth; 0: none."
)
def losses_command(count: int, seed: int, mount_every: int) -> int:
    """Lose power at any moment; unsynced writes are lost, torn and reordered."""
    return _told(found := Losses(), lambda: losses.campaign(found, count, seed, mount_every))


@crash.command("flips")
@click.option("--count", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@_seed
@click.option(
    "--mount-every", type=click.IntRange(0), default=20, show_default=True, help="Mount every Nth; 0: none."
)
def flips_command(count: int, seed: int, mount_every: int) -> int:
    """Flip bits in cached content, index, journal and their logs."""
    return _told(found := Flips(), lambda: flips.campaign(found, count, seed, mount_every))


@crash.command("kills")
@click.option("--count", type=click.IntRange(1), default=300, show_default=True, help="How many.")
@_seed
def kills_command(count: int, seed: int) -> int:
    """Kill a mount at any moment and at any system call, whatever it is at, and mount again."""
    return _told(found := Kills(), lambda: kills.campaign(found, count, seed))


def _told(found: Losses | Flips | Kills, run: Callable[[], None]) -> int:
    """Run a campaign that counts in *found*, and show how far it came, also where it was interrupted."""
    try:
        run()
    finally:
        print(table(found.rows()))
        for sentence in found.broken[:MOST_SHOWN]:
            print(f"BROKEN: {sentence}")
    return 1 if found.broken else 0


if __name__ == "__main__":
    sys.exit(command_line.run(crash, "scripts/crash", FAILURES))
