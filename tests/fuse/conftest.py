"""Fixtures for the tests of the adapter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing


@pytest.fixture
def autojump_run() -> Callable[..., Any]:
    """Runs an async function in virtual time, which jumps ahead whenever every task sleeps."""

    def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        return trio.run(function, *args, clock=trio.testing.MockClock(autojump_threshold=0))

    return run
