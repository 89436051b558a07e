"""Ctrl-C while the service does not answer: nobody waits for it any longer."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_terminal import Terminal

from imagefs.emulator import Emulator
from imagefs.emulator.faults import Fault

IMAGEFS = (sys.executable, "-m", "imagefs")


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Emulator]:
    """A service that takes calls and never answers."""
    with Emulator(tmp_path / "service") as service:
        service.add_image("a.iso", "toronto", b"abc")
        yield service


def await_call(service: Emulator, action: str) -> None:
    """Wait until the service was asked."""
    ends_s = time.monotonic() + 60
    while not service.ledger.count(action):
        assert time.monotonic() < ends_s
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ("list", ("whoami",)),
        ("list", ("ls",)),
        ("details", ("ls",)),
        ("replicate", ("replicate", "ID", "montreal")),
        ("fetch", ("fetch", "http://example.org/x.iso", "--region", "toronto", "--wait")),
    ],
)
def test_ctrl_c_ends_the_wait(silent: Emulator, action: str, command: tuple[str, ...]) -> None:
    """At once, with the status of an interrupted command."""
    (image,) = silent.images()
    silent.faults.add(Fault("never_answers", action=action, times=None))
    account = ("--api-url", silent.api_url, "--credentials", str(silent.credentials_file))
    named = tuple(image.image_id if word == "ID" else word for word in command)
    with Terminal(*IMAGEFS, *named, *account) as terminal:
        await_call(silent, action)
        terminal.press_ctrl_c()
        assert terminal.ended() == 130
    assert "interrupted" in terminal.screen
