"""Fixtures for the tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import API_ID, KEY


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of its own, and no settings from the environment."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("CONFIG", "CACHE", "STATE", "DATA"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    for name in ("LUNANODE_API_ID", "LUNANODE_API_KEY", "IMAGEFS_API_URL"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    """A good credentials file."""
    path = tmp_path / "credentials.toml"
    path.write_text(f'api_id = "{API_ID}"\napi_key = "{KEY}"\n')
    path.chmod(0o600)
    return path
