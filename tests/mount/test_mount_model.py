"""Random histories on a real mount, against a plain model of the account: ``scripts/model`` takes many more steps.

``IMAGEFS_MODEL_STEPS`` is how many steps are taken in all, ``IMAGEFS_MODEL_SEED`` the seed of the first history.
"""

from __future__ import annotations

import os
from typing import Final

import pytest

from histories.history import live

STEPS: Final = int(os.environ.get("IMAGEFS_MODEL_STEPS", "150"))
SEED: Final = int(os.environ.get("IMAGEFS_MODEL_SEED", "1"))
STEPS_A_HISTORY: Final = 50


@pytest.mark.timeout(max(600, STEPS * 5))
def test_the_tree_is_the_model_whatever_happens() -> None:
    """No image is lost or made twice, and each program is told the truth."""
    taken = 0
    for seed in range(SEED, SEED - (-STEPS // STEPS_A_HISTORY)):
        past = live(seed, STEPS_A_HISTORY)
        assert past.broken is None, f"history {seed}: {past.broken}"
        taken += past.steps.total()
    assert taken >= STEPS
