"""Power lost at any moment of a recorded run, and what a cache makes of what the disk holds then."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from crashes import recorded, strace_log
from crashes.disk import Recording
from crashes.images import Image
from crashes.judge import judge
from crashes.stage import SCRIPTS, Stage, stage
from crashes.strace_log import Marked
from imagefs.store.directory import CacheDirectory
from imagefs.store.journal import JournalTable
from progress import Progress

LOSSES_A_RECORDING: Final = 200
RECORDING_S: Final = 300.0


class RecordingFailed(Exception):
    """The process that is recorded did not come to its end."""


@dataclass(slots=True)
class Losses:
    """The figures of a campaign so far; each of ``broken`` is a sentence about a promise that was not kept."""

    count: int = 0
    recordings: int = 0
    calls: int = 0
    blocks: int = 0
    intents: int = 0
    mounted: int = 0
    broken: list[str] = field(default_factory=list)

    def rows(self) -> dict[str, object]:
        """As shown at the end."""
        return {
            "power losses": self.count,
            "recorded runs; calls that changed files": f"{self.recordings}; {self.calls}",
            "cached blocks offered after a loss": self.blocks,
            "intents found in the journal": self.intents,
            "really mounted and read": self.mounted,
            "promises broken": len(self.broken),
        }


def campaign(found: Losses, count: int, seed: int, mount_every: int) -> None:
    """Lose power *count* times; every *mount_every*th result is mounted as well, 0 for none."""
    progress = Progress()
    with stage(mount_every) as on:
        while found.count < count:
            progress.show(f"power losses: {found.count} of {count}, recording")
            recording = record(on, f"{seed} {found.recordings}")
            found.recordings += 1
            found.calls += len(recording.calls)
            for _ in range(min(LOSSES_A_RECORDING, count - found.count)):
                found.count += 1
                chance = random.Random(f"{seed} {found.count}")
                moment = chance.randrange(recording.last_line + 1)
                disk = on.scratch / "disk"
                recording.lose_power(moment, chance, disk)
                cache_dir = disk / "user" / "cache"
                _look(found, recording, moment, cache_dir, on.images)
                if on.is_mounted(found.count):
                    _mount(found, on, cache_dir)
                shutil.rmtree(disk)
                progress.show(f"power losses: {found.count} of {count}")
    progress.end()


def record(on: Stage, seed: str) -> Recording:
    """Run the recorded process once. Raises RecordingFailed or NotUnderstood."""
    with tempfile.TemporaryDirectory(dir=on.scratch, prefix="recorded-") as folder:
        root = Path(folder) / "disk"
        root.mkdir()
        log = Path(folder) / "log"
        command = (
            *("strace", *strace_log.OPTIONS, "-o", str(log)),
            *(sys.executable, "-m", recorded.__name__, str(root / "user" / "cache"), seed, *on.words()),
        )
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=RECORDING_S, check=False, cwd=SCRIPTS
        )
        if done.returncode != 0:
            raise RecordingFailed(f"The recorded process failed: {done.stderr[-2000:]}")
        return Recording(root, strace_log.calls_below(root, log))


def _look(found: Losses, recording: Recording, moment: int, cache_dir: Path, images: Sequence[Image]) -> None:
    """Open what is left, as a mount does, and compare it with the images and with what was acknowledged."""
    where = f"loss {found.count}, at line {moment}"
    try:
        cache = CacheDirectory.open(cache_dir, owner="/judge", max_bytes=1 << 30, min_free_bytes=0)
        try:
            verdict = judge(cache, images)
            intents = JournalTable(cache.journal, recorded.ACCOUNT).load()
        finally:
            cache.close()
    except Exception as error:  # any is a broken promise, to be told with its place
        found.broken.append(f"{where}: {type(error).__name__}: {error}")
        return
    found.blocks += verdict.blocks
    found.intents += len(intents)
    found.broken += [f"{where}: {problem}" for problem in cache.problems]
    found.broken += [f"{where}: unproved: {wrong}" for wrong in verdict.wrong + verdict.served_wrong]
    begun, done = _journal_steps(recording, moment)
    if intents not in [recorded.intents_after(step) for step in range(done, begun + 1)]:
        found.broken.append(f"{where}: the journal has {sorted(intents)} between changes {done} and {begun}")


def _journal_steps(recording: Recording, moment: int) -> tuple[int, int]:
    """How many changes of the journal had begun, and how many were acknowledged."""
    begun = done = 0
    for call in recording.calls:
        if isinstance(call.event, Marked) and call.event.text.startswith(recorded.MARK):
            _, what, number = call.event.text.split()
            if what == "begins" and call.began < moment:
                begun = int(number)
            elif what == "done" and call.began < moment:
                done = int(number)
    return begun, done


def _mount(found: Losses, on: Stage, cache_dir: Path) -> None:
    """Mount what is left and read every image."""
    where = f"loss {found.count}, mounted"
    found.mounted += 1
    try:
        found.broken += [f"{where}: wrong bytes of {name}" for name in on.wrong_through_mount(cache_dir)]
    except Exception as error:  # as above
        found.broken.append(f"{where}: {type(error).__name__}: {error}")
