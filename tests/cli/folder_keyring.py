"""A keyring for tests, by its own library's rules: each key is a file in the folder that the environment names."""

from __future__ import annotations

import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError


class FolderKeyring(KeyringBackend):
    """Named by PYTHON_KEYRING_BACKEND."""

    priority = 1  # type: ignore[assignment]  # the base class computes it

    def _file(self, service: str, username: str) -> Path:
        return Path(os.environ["FOLDER_KEYRING"]) / f"{service}-{username}"

    def get_password(self, service: str, username: str) -> str | None:
        """None where there is none."""
        file = self._file(service, username)
        return file.read_text() if file.exists() else None

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep it."""
        self._file(service, username).write_text(password)

    def delete_password(self, service: str, username: str) -> None:
        """Raises where there is none."""
        file = self._file(service, username)
        if not file.exists():
            raise PasswordDeleteError("not found")
        file.unlink()
