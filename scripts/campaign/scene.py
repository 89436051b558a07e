"""What takes part in a campaign, made and cleared away: the service, the proxy, the mount, and the images."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from campaign import proxy_effects, readers
from campaign.changers import Change
from campaign.clock import CallClock, Late
from campaign.daemon import Daemon
from campaign.proxy import Proxy, Strike
from campaign.subjects import BLOCK, Subject, Subjects
from campaign.tally import Tally
from imagefs.emulator import Emulator, Fault
from imagefs.emulator.switches import Switches

T = TypeVar("T")

PARALLEL: Final = 40
"""So many readers and changers at once."""

ALL_SHAPES: Final = tuple(readers.SHAPES)

LISTED_S: Final = 60.0

DONOR_BYTES: Final = 64 * BLOCK


@dataclass(frozen=True, slots=True)
class Reading:
    """Who reads what, and how; with a source of chance of its own, as readers run side by side."""

    subject: Subject
    shape: str
    rng: random.Random


def readings(
    rng: random.Random, images: Sequence[Subject], shapes: Sequence[str] = ALL_SHAPES
) -> list[Reading]:
    """A reader of each of *images*, in any of *shapes*."""
    return [Reading(subject, rng.choice(shapes), random.Random(rng.random())) for subject in images]


@dataclass(slots=True, eq=False)
class Scene:
    """Everything a round needs. ``seed`` decides all contents; a round's choices are its own."""

    folder: Path
    seed: int
    emulator: Emulator
    proxy: Proxy
    daemon: Daemon
    subjects: Subjects
    clock: CallClock
    tally: Tally
    donor: Subject
    counted: Counter[str] = field(default_factory=Counter)
    kept: list[Change] = field(default_factory=list)

    # --- faults ---

    def fault(self, subject: Subject | None, fault: Fault) -> None:
        """Plan a fault of the service; *subject* is what it is for."""
        self.tally.plan([f"service: {fault.kind}"])
        self.emulator.faults.add(fault)
        if subject is not None:
            subject.kinds.append(fault.kind)

    def strike(self, subject: Subject | None, strike: Strike) -> None:
        """Plan a strike of the network; *subject* is what it is for."""
        self.tally.plan([strike.kind])
        self.proxy.plan(strike)
        if subject is not None:
            subject.kinds.append(strike.kind)
            subject.rotten |= strike.kind in proxy_effects.ROTTEN

    def peace(self) -> None:
        """Nothing strikes any more; what did is counted."""
        self.emulator.faults.clear()
        self.proxy.clear()
        self.emulator.switches.turn(Switches(saving_s=0.3).as_dict())
        self.count_struck()

    def count_struck(self) -> None:
        """Bring the tally up to date with what emulator and proxy did."""
        struck = Counter({f"service: {kind}": times for kind, times in self.emulator.faults.struck.items()})
        struck.update(self.proxy.struck)
        self.tally.strike_all(struck - self.counted)
        self.counted = struck

    def discard_later(self, images: Sequence[Subject]) -> None:
        """Take *images* away, but those that changes of the last round are still accounted by."""
        kept = {change.subject.image_id for change in self.kept}
        for subject in images:
            if subject.image_id not in kept:
                self.subjects.discard(subject)

    # --- names ---

    def await_listed(self, images: Sequence[Subject]) -> None:
        """Wait until the mount shows them; one pending image makes a listing live for five seconds only."""
        give_up_s = time.monotonic() + LISTED_S
        wanted = {(subject.region, subject.name) for subject in images}
        while missing := {one for one in wanted if one[1] not in self.names(one[0])}:
            if time.monotonic() > give_up_s:
                self.tally.broken(
                    "seen within the listing's lifetime", f"{sorted(missing)[:3]} are not shown"
                )
                return
            time.sleep(0.1)

    def names(self, region: str) -> set[str]:
        """What the mount shows in a region."""
        with self.clock.call("look", f"ls {region}"), contextlib.suppress(FileNotFoundError):
            return {path.name for path in (self.daemon.root / region).iterdir()}
        return set()

    # --- readers ---

    def read(
        self,
        subject: Subject,
        shape: str,
        rng: random.Random,
        extra_s: float = 0.0,
        daemon: Daemon | None = None,
    ) -> readers.Witness:
        """Read it in that shape; what promise 1 has to say of it goes to the tally."""
        root = (daemon or self.daemon).root
        witness = readers.read(root, subject, shape, rng, self.clock, extra_s)
        if witness.verdict is not None:
            self.tally.broken("never a wrong byte", witness.verdict)
        self.tally.figures["reads, whole" if witness.is_whole else "reads, partial"] += 1
        self.tally.figures["reads that ended in an error"] += witness.error is not None
        self.tally.figures["bytes compared"] += witness.got_bytes
        return witness

    def read_together(
        self, readings: Sequence[Reading], extra_s: float = 0.0, parallel: int = PARALLEL
    ) -> list[readers.Witness]:
        """All of *readings* side by side."""
        jobs = [partial(self.read, one.subject, one.shape, one.rng, extra_s) for one in readings]
        return self.all_at_once(jobs, parallel)

    def must_read(self, subjects: Sequence[Subject], promise: str, within_s: float = 90.0) -> None:
        """Without faults each of *subjects* is read right by now, or before long: errors are remembered for a while."""

        def heal(subject: Subject) -> None:
            give_up_s = time.monotonic() + within_s
            while True:
                witness = self.read(subject, "sequential", random.Random(0))
                if witness.is_whole and witness.error is None:
                    return
                if time.monotonic() > give_up_s:
                    self.tally.broken(promise, f"{subject} cannot be read after the faults: {witness.error}")
                    return
                time.sleep(0.5)

        self.all_at_once([partial(heal, subject) for subject in subjects])

    def all_at_once(self, jobs: Sequence[Callable[[], T]], parallel: int = PARALLEL) -> list[T]:
        """Run *jobs* side by side, and wait for all. A bug in one is raised here."""
        if not jobs:
            return []
        with ThreadPoolExecutor(min(parallel, len(jobs))) as pool:
            futures = [pool.submit(job) for job in jobs]
            return [future.result() for future in as_completed(futures)]

    # --- the mount ---

    def late(self, late: Late) -> None:
        """A call is over its deadline. One that does not end is freed by ending the mount."""
        how = "took" if late.ended else "did not end within"
        self.tally.broken("never a hang", f"{late.what} ({late.kind}) {how} {late.seconds:.1f} s")
        if not late.ended:
            self.daemon.kill()

    def mount(self, *options: str, extra_s: float = 0.0) -> None:
        """Mount the scene's own mount point."""
        self.daemon.mount(*options, extra_s=extra_s)
        self.tally.figures["mounts"] += 1

    def another_daemon(self, name: str, cache_dir: Path | None = None) -> Daemon:
        """A second mount of the account, with a mount point, log and cache of its own; not mounted yet."""
        return Daemon(self.folder / name, self.clock, self.daemon.options, cache_dir)

    def ensure_alive(self) -> None:
        """A mount that died though nobody killed it is a break; the campaign goes on with a new one."""
        if self.daemon.stuck:
            self.tally.broken("a killed mount ends", f"{self.daemon.stuck} times it was held by the kernel")
            self.daemon.stuck = 0
        if not self.daemon.is_alive:
            self.tally.broken("the mount lives on", f"the mount's process ended; see {self.daemon.log_file}")
            self.daemon.clear_away()
            self.mount()


@contextmanager
def made(folder: Path, seed: int, tally: Tally, options: Sequence[str] = ()) -> Iterator[Scene]:
    """A scene below *folder*, mounted, until the block ends."""
    rng = random.Random(f"{seed} contents")
    with Emulator(folder / "service", switches=Switches(saving_s=0.3)) as emulator:
        port = int(emulator.root_url.rsplit(":", 1)[1].strip("/"))
        proxy = Proxy(port, proxy_effects.ANSWERING, proxy_effects.ASKING, seed)
        proxy.up()
        subjects = Subjects(emulator, rng)
        # Always one that is pending: listings are then asked for every five seconds, and not every thirty.
        emulator.add_image("never-active", "roubaix", b"", status="saving")
        clock = CallClock()
        daemon = Daemon(
            folder,
            clock,
            (
                *("--api-url", f"http://127.0.0.1:{proxy.port}/api/"),
                *("--credentials", emulator.credentials_file),
                *options,
            ),
        )
        scene = Scene(
            folder,
            seed,
            emulator,
            proxy,
            daemon,
            subjects,
            clock,
            tally,
            subjects.make(DONOR_BYTES, "roubaix"),
        )
        clock.start(scene.late)
        try:
            scene.mount()
            yield scene
            scene.peace()
            daemon.unmount()
        finally:
            clock.stop()
            proxy.clear()
            daemon.clear_away()
            proxy.down()
