"""Fixtures for the tests of the adapter."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from dummy_mount import Filesystem


@pytest.fixture
def autojump_run() -> Callable[..., Any]:
    """Runs an async function in virtual time, which jumps ahead whenever every task sleeps."""

    def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return trio.run(function, *args, clock=trio.testing.MockClock(autojump_threshold=0))

    return run


@pytest.fixture
def filesystem() -> Iterator[Filesystem]:
    """A mounted dummy filesystem."""
    mountpoint = Path(tempfile.mkdtemp(prefix="imagefs-dummy-"))
    mounted = Filesystem(mountpoint)
    yield mounted
    mounted.clean_up()
    mountpoint.rmdir()
