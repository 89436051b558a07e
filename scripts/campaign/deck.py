"""Which round comes when: decided by the seed alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from campaign.rounds import cache, changes, crowd, images, interrupts, machine, service, transfers
from campaign.scene import Scene
from campaign.subjects import Subject, Subjects


@dataclass(frozen=True, slots=True)
class Round:
    """A kind of round.

    ``images`` makes those that it needs, while the round before goes on: by its time they are listed. ``often``: how
    many of it are in a deck. ``calm``: it leaves the mount's process alone.
    """

    name: str
    images: Callable[[Subjects, random.Random], list[Subject]]
    run: Callable[[Scene, random.Random, Sequence[Subject]], None]
    kinds: tuple[str, ...]
    often: int = 1
    calm: bool = True


ROUNDS: Final = (
    Round("transfers", transfers.images, transfers.run, transfers.KINDS, often=16),
    Round("changes", changes.images, changes.run, changes.KINDS, often=7),
    Round("killed-changes", changes.few_images, changes.run_killed, changes.KILL_KINDS, often=3, calm=False),
    Round("killed-reads", machine.images, machine.run_killed, machine.KILL_KINDS, often=3, calm=False),
    Round("stopped", machine.images, machine.run_stopped, machine.STOP_KINDS),
    Round("limited", machine.many_images, machine.run_limited, machine.LIMIT_KINDS),
    Round("calls", machine.call_images, machine.run_calls, machine.CALL_KINDS, often=4),
    Round("damaged", cache.images, cache.run_damaged, cache.DAMAGE_KINDS, often=3, calm=False),
    Round("disk", cache.images, cache.run_disk, cache.DISK_KINDS),
    Round("service", service.images, service.run, service.KINDS, often=3),
    Round("images", images.images, images.run, images.KINDS, often=2),
    Round("interrupts", interrupts.images, interrupts.run, interrupts.KINDS, often=2),
    Round("crowd", crowd.images, crowd.run, crowd.KINDS),
)
BY_NAME: Final = {kind.name: kind for kind in ROUNDS}


@dataclass(frozen=True, slots=True)
class Dealt:
    """The *number*-th round of a campaign, with its own source of chance: it can be run again by itself."""

    number: int
    round: Round
    seed: int

    def rng(self, purpose: str) -> random.Random:
        """What decides all that has to do with *purpose* in this round."""
        return random.Random(f"{self.seed}/{self.number}/{self.round.name}/{purpose}")

    def images(self, subjects: Subjects) -> list[Subject]:
        """The images that this round needs."""
        return self.round.images(subjects, self.rng("images"))

    @property
    def name(self) -> str:
        """How the round is called in reports."""
        return f"{self.number} ({self.round.name})"


def deal(seed: int, chosen: Sequence[Round], begin: int = 1) -> Iterator[Dealt]:
    """Rounds without end, from number *begin* on: decks in which each chosen kind is as often as it says."""
    number = 0
    while True:
        deck = [kind for kind in chosen for _ in range(kind.often)]
        random.Random(f"{seed} deck {number}").shuffle(deck)
        for kind in deck:
            number += 1
            if number >= begin:
                yield Dealt(number, kind, seed)
