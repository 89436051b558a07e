"""Fixtures for the tests of the store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_cases import open_cache

from imagefs.store.directory import CacheDirectory


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the cache of the test goes; not made yet."""
    return tmp_path / "user" / "cache"


@pytest.fixture
def cache(path: Path) -> Iterator[CacheDirectory]:
    """An open cache of 256 MiB."""
    directory = open_cache(path)
    yield directory
    directory.close()
