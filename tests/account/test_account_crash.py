"""A process killed at every step of a move: the image is there once or twice, and in the end as it should be."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import dying_mount
import pytest
from account_emulated import places, play_on, shown, until
from stored_files import stored_account

from imagefs.account import Account
from imagefs.account.stored_account import StoredAccount
from imagefs.core.intents import Deletion
from imagefs.emulator import Emulator, Switches

MOST_STEPS = 60


def run_until_killed(service: Emulator, index: Path, kind: str, image_id: str, steps: int) -> bool:
    """Whether the process was killed, rather than done."""
    arguments = [service.api_url, service.api_id, service.api_key, str(index), kind, image_id, str(steps)]
    command = [sys.executable, dying_mount.__file__, *arguments]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr.decode()
    return ended.returncode != 0


def recover(service: Emulator, path: Path, expected: list[tuple[str, str]]) -> None:
    """The next mount on the same index: it ends with the *expected* images, and shows them."""

    async def scene(account: Account, stored: StoredAccount) -> None:
        await until(lambda: not stored.load_intents() and places(service) == expected)
        await account.refresh()
        assert shown(account) == expected

    play_on(service, path, scene)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kind", "pending_changes"), [("move", True), ("copy", False)])
def test_a_mount_killed_at_every_step_loses_and_doubles_nothing(
    tmp_path: Path, kind: str, pending_changes: bool
) -> None:
    """What the service has begun with is finished by the next mount; what it has not is left as it was.

    A copy is followed by the deletion of its source, which the mount is killed before or after.
    """
    switches = Switches(saving_s=0.05, pending_changes=pending_changes)
    outcomes = set()
    for steps in range(1, MOST_STEPS):
        with Emulator(tmp_path / f"service {steps}", switches=switches) as service:
            image_id = service.add_synthetic("original", "toronto", 1000, seed=steps)
            killed = run_until_killed(service, tmp_path / f"index {steps}", kind, image_id, steps)
            left = places(service)
            assert 1 <= len(left) <= 2
            replicated = service.ledger.count("replicate") == 1
            finished = [("montreal", "moved")] if replicated else [("toronto", "original")]
            if not killed:
                assert left == finished
                break
            if kind == "copy" and replicated and not deletion_was_asked(tmp_path / f"index {steps}", left):
                finished = [("montreal", "moved"), ("toronto", "original")]
            outcomes.add(tuple(finished))
            recover(service, tmp_path / f"index {steps}", finished)
            assert service.ledger.count("replicate") == int(replicated)
    else:
        pytest.fail("The process never came to its end.")
    assert len(outcomes) == (2 if kind == "move" else 3)


def deletion_was_asked(path: Path, left: list[tuple[str, str]]) -> bool:
    """Whether the killed process had come as far as deleting the source of a copy."""
    with stored_account(path) as stored:
        intents = stored.load_intents().values()
    return ("toronto", "original") not in left or any(isinstance(one, Deletion) for one in intents)
