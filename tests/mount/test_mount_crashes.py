"""Crashes and rot, a few of them: ``scripts/crash kills`` and ``flips`` do the same many more times."""

from __future__ import annotations

import pytest

from crashes import flips, kills
from crashes.scenes import SCENES

pytestmark = pytest.mark.timeout(600)


@pytest.mark.root
@pytest.mark.parametrize("name", ["eviction", "move", "unmount"])
def test_a_killed_mount_costs_nothing(name: str) -> None:
    """The next one works, serves the right bytes, and ends what was begun; no image is lost or there twice."""
    found = kills.Kills()
    kills.campaign(found, 1, seed=3, scenes=[scene for scene in SCENES if scene.name == name])
    assert found.broken == []
    assert found.count == len(found.next_mounts_s) == 1
    assert found.bytes_compared > 0


@pytest.mark.root
def test_flipped_bits_are_never_delivered() -> None:
    """Neither from content nor by way of a damaged index, through the store and through a mount."""
    found = flips.Flips()
    flips.campaign(found, 24, seed=3, mount_every=8)
    assert found.broken == []
    assert (found.count, found.mounted) == (24, 3)
    assert all(found.by_place.values())
