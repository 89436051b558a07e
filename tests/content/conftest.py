"""Fixtures for the tests of contents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from content_fakes import open_cache

from imagefs.store.directory import CacheDirectory


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[CacheDirectory]:
    """An open cache of 256 MiB."""
    directory = open_cache(tmp_path / "cache")
    yield directory
    directory.close()
