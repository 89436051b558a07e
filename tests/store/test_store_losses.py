"""Power lost at any moment: what the cache makes of a disk that lost, tore and reordered what was not synced.

``scripts/crash losses`` does the same many more times.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from crashes import losses
from crashes.disk import SECTOR_BYTES, Recording
from crashes.strace_log import Call, Event, Made, Removed, Renamed, Resized, Synced, Written

ROUNDS = 60

OLD, NEW = b"o" * 2 * SECTOR_BYTES, b"n" * 2 * SECTOR_BYTES


@pytest.mark.timeout(600)
def test_nothing_unproved_is_served_and_no_acknowledged_intent_is_lost() -> None:
    """Of a real process's writes, as the kernel saw them, names and syncs included."""
    found = losses.Losses()
    losses.campaign(found, 30, seed=7, mount_every=0)
    assert found.broken == []
    assert found.count == 30
    assert found.blocks > 100
    assert found.intents > 20


def outcomes(tmp_path: Path, *events: Event) -> set[tuple[tuple[str, bytes], ...]]:
    """All that is seen on the disk, in many losses at the end of *events* below /d."""
    calls = [Call(2 * place, 2 * place + 1, event) for place, event in enumerate(events)]
    found = set()
    for number in range(ROUNDS):
        target = tmp_path / f"{number}"
        Recording(Path("/d"), calls).lose_power(len(events) * 2, random.Random(number), target)
        found.add(tuple(sorted((file.name, file.read_bytes()) for file in target.iterdir())))
    return found


MADE = (Made("/d/a", is_directory=False), Written("/d/a", 0, OLD))


def test_what_was_synced_is_there(tmp_path: Path) -> None:
    """File and name, each by a sync of its own."""
    assert outcomes(tmp_path, *MADE, Synced("/d/a"), Synced("/d")) == {(("a", OLD),)}


def test_a_name_is_not_synced_with_its_file(tmp_path: Path) -> None:
    """It may be missing."""
    assert outcomes(tmp_path, *MADE, Synced("/d/a")) == {(), (("a", OLD),)}


def test_a_write_that_was_not_synced_may_be_torn(tmp_path: Path) -> None:
    """Sector by sector, old or new, and never anything else."""
    found = outcomes(tmp_path, *MADE, Synced("/d/a"), Synced("/d"), Written("/d/a", 0, NEW))
    o, n = OLD[:SECTOR_BYTES], NEW[:SECTOR_BYTES]
    assert found == {(("a", content),) for content in (o + o, o + n, n + o, n + n)}


def test_a_later_write_may_be_there_without_an_earlier_one(tmp_path: Path) -> None:
    """Between two syncs nothing keeps its order; a cut of the file may be missing as well."""
    events = (*MADE, Synced("/d/a"), Synced("/d"), Resized("/d/a", 0), Written("/d/a", 0, b"x"))
    found = {content for ((_, content),) in outcomes(tmp_path, *events)}
    assert found == {OLD, b"", b"x", b"x" + OLD[1:]}


@pytest.mark.parametrize("is_synced", [True, False])
def test_a_rename_is_there_or_not(tmp_path: Path, is_synced: bool) -> None:
    """And never half of it, nor a later change of the same name without it."""
    events: list[Event] = [*MADE, Synced("/d/a"), Synced("/d"), Renamed("/d/a", "/d/b")]
    if is_synced:
        assert outcomes(tmp_path, *events, Synced("/d")) == {(("b", OLD),)}
    else:
        assert outcomes(tmp_path, *events, Removed("/d/b")) == {(("a", OLD),), (("b", OLD),), ()}
