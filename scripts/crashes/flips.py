"""Bits flipped in the files of a cache, as disks and memory do: no wrong byte may come out of it."""

from __future__ import annotations

import logging
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crashes import left_over
from crashes.images import Image
from crashes.judge import judge
from crashes.losses import RecordingFailed
from crashes.stage import SCRIPTS, Stage, stage
from imagefs.errors import CacheUnusable
from imagefs.store.blocks import block_count
from imagefs.store.directory import CacheDirectory
from imagefs.store.journal import JournalTable
from progress import Progress

FILL_S: Final = 120.0
PLACES: Final = ("content", "index", "index-wal", "journal", "journal-wal")
WEIGHTS: Final = (8, 4, 4, 2, 2)


@dataclass(slots=True)
class Flips:
    """The figures of a campaign so far; each of ``broken`` is a sentence about a promise that was not kept."""

    count: int = 0
    by_place: Counter[str] = field(default_factory=Counter)
    blocks_lost: int = 0
    begun_anew: int = 0
    refused: int = 0
    intents_lost: int = 0
    mounted: int = 0
    broken: list[str] = field(default_factory=list)

    def rows(self) -> dict[str, object]:
        """As shown at the end."""
        return {
            "bits flipped": self.count,
            "in": ", ".join(f"{place}: {self.by_place[place]}" for place in PLACES),
            "cached blocks not used any more": self.blocks_lost,
            "index or journal begun anew": self.begun_anew,
            "taken for a newer version's and refused": self.refused,
            "intents lost with what was flipped": self.intents_lost,
            "really mounted and read": self.mounted,
            "promises broken": len(self.broken),
        }


def campaign(found: Flips, count: int, seed: int, mount_every: int) -> None:
    """Flip *count* bits, each in a cache of its own; every *mount_every*th is mounted as well, 0 for none."""
    progress = Progress()
    with stage(mount_every) as on:
        left, cache_dir = on.scratch / "left", on.scratch / "cache"
        _leave_cache(left, on)
        while found.count < count:
            found.count += 1
            shutil.copytree(left, cache_dir)
            where = _flip(found, cache_dir, random.Random(f"{seed} {found.count}"))
            if on.is_mounted(found.count):
                _mount(found, where, on, cache_dir)
            else:
                _look(found, where, cache_dir, on.images)
            shutil.rmtree(cache_dir)
            progress.show(f"flips: {found.count} of {count}")
    progress.end()


def _leave_cache(cache_dir: Path, on: Stage) -> None:
    command = (sys.executable, "-m", left_over.__name__, str(cache_dir), *on.words())
    done = subprocess.run(command, capture_output=True, text=True, timeout=FILL_S, check=False, cwd=SCRIPTS)
    if done.returncode != -signal.SIGKILL:
        raise RecordingFailed(f"The process that fills the cache failed: {done.stderr[-2000:]}")


def _flip(found: Flips, cache_dir: Path, chance: random.Random) -> str:
    """Flip one bit; where."""
    place = chance.choices(PLACES, WEIGHTS)[0]
    found.by_place[place] += 1
    path = cache_dir / place
    if path.is_dir():
        path = chance.choice(sorted(file for file in path.rglob("*") if file.is_file()))
    raw = bytearray(path.read_bytes())
    position, bit = chance.randrange(len(raw)), chance.randrange(8)
    raw[position] ^= 1 << bit
    path.write_bytes(raw)
    return f"flip {found.count}, bit {bit} of byte {position} of {path.relative_to(cache_dir)}"


class _Log(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _look(found: Flips, where: str, cache_dir: Path, images: Sequence[Image]) -> None:
    """Open the cache, as a mount does; compare what it serves with the images, and its journal."""
    log = _Log()
    logging.getLogger("imagefs").addHandler(log)
    try:
        cache = CacheDirectory.open(cache_dir, owner="/judge", max_bytes=1 << 30, min_free_bytes=0)
        try:
            verdict = judge(cache, images)
            intents = JournalTable(cache.journal, left_over.ACCOUNT).load()
        finally:
            cache.close()
    except CacheUnusable as error:
        if "newer version" not in str(error):
            found.broken.append(f"{where}: {error}")
        found.refused += 1
        return
    except Exception as error:  # any is a broken promise, to be told with its place
        found.broken.append(f"{where}: {type(error).__name__}: {error}")
        return
    finally:
        logging.getLogger("imagefs").removeHandler(log)
    found.blocks_lost += sum(block_count(len(image.content)) for image in images)
    found.blocks_lost -= verdict.blocks - len(verdict.wrong)
    found.begun_anew += any("begun anew" in problem for problem in cache.problems)
    found.broken += [f"{where}: delivered: {wrong}" for wrong in verdict.served_wrong]
    _compare_journal(found, where, intents, is_reported=bool(log.lines or cache.problems))


def _compare_journal(found: Flips, where: str, intents: dict[int, object], *, is_reported: bool) -> None:
    """What the journal tells must be right; what it has lost must be reported.

    A flip in its log is taken for the end of the log, as a loss of power leaves it, so that nobody can tell.
    """
    lost = left_over.INTENTS.keys() - intents.keys()
    found.intents_lost += len(lost)
    if any(left_over.INTENTS.get(number) != intent for number, intent in intents.items()):
        found.broken.append(f"{where}: the journal has {intents}")
    if lost and not is_reported and "-wal" not in where:
        found.broken.append(f"{where}: the journal has lost {sorted(lost)} without a word")


def _mount(found: Flips, where: str, on: Stage, cache_dir: Path) -> None:
    """Mount the cache and read every image."""
    found.mounted += 1
    try:
        wrong = on.wrong_through_mount(cache_dir)
        found.broken += [f"{where}: mounted: wrong bytes of {name}" for name in wrong]
    except Exception as error:  # as above
        if "newer version" in str(error):
            found.refused += 1
        else:
            found.broken.append(f"{where}: mounted: {type(error).__name__}: {error}")
