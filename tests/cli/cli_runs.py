"""Runs of the command line, with everything it says collected and searched for the key."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from imagefs.cli import main

API_ID = "SIXTEENCHARSHERE"
CANARY = "c4n4ry" * 22
KEY = CANARY[:128]


@dataclass(frozen=True)
class Run:
    """What a command returned and wrote."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on standard error."""
        (line,) = self.err.splitlines()
        return line


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Run:
    """Run ``imagefs ARGUMENTS``; the key must not show in anything it says."""
    status = main(list(arguments))
    said = capsys.readouterr()
    assert CANARY[:12] not in said.out + said.err
    return Run(status, said.out, said.err)
