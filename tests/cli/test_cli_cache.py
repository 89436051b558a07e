"""Commands on a cache that no mount has."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import run

from imagefs.store import CacheDirectory


def test_what_was_wrong_with_the_cache_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, credentials: Path
) -> None:
    """By whoever opens it first: what is put right then is not found any more."""
    folder = tmp_path / "cache"
    CacheDirectory.open(folder, owner="a mount", max_bytes=1 << 20, min_free_bytes=0).close()
    (folder / "journal").write_bytes(b"damaged" * 1000)
    command = ("cache", "ls", "--credentials", str(credentials), "--cache-dir", str(folder))
    done = run(capsys, *command)
    assert done.status == 0
    assert "imagefs: the cache's journal was damaged" in done.err
    assert "imagefs: look in the account for images" in done.err
    assert run(capsys, *command).err == ""
