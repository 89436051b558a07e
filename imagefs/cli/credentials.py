"""Where the account's ID and key come from, and who may see them."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import platformdirs

from imagefs.cli import keyring_key
from imagefs.core.models import Credentials
from imagefs.errors import SetupError

ID_LENGTH: Final = 16
KEY_LENGTH: Final = 128
MAX_FILE_BYTES: Final = 64 * 1024


def default_file(profile: str | None = None) -> Path:
    """The credentials file of *profile*, or of none, in the user's configuration directory."""
    name = "credentials.toml" if profile is None else f"credentials-{profile}.toml"
    return platformdirs.user_config_path("imagefs") / name


def load(path: Path | None, environment: Mapping[str, str], default: Path) -> Credentials:
    """The credentials of *path*, else of *environment*, else of the file *default*. Raises SetupError."""
    if path is not None:
        return from_file(path)
    if is_in(environment):
        api_id, api_key = environment.get("LUNANODE_API_ID"), environment.get("LUNANODE_API_KEY")
        return checked(api_id, api_key, "the environment (LUNANODE_API_ID and LUNANODE_API_KEY)")
    if not os.path.lexists(default):
        raise SetupError(
            f"No credentials: run imagefs login, or put api_id and api_key into {default} (mode 0600), name a file "
            "with --credentials, or set LUNANODE_API_ID and LUNANODE_API_KEY."
        )
    return from_file(default)


def is_in(environment: Mapping[str, str]) -> bool:
    """Whether *environment* holds credentials, or a part of them."""
    return bool(environment.get("LUNANODE_API_ID") or environment.get("LUNANODE_API_KEY"))


def from_file(path: Path) -> Credentials:
    """The credentials of a TOML file that nobody else can read; the key may be in the keyring. Raises SetupError."""
    values = _values(path)
    api_id, api_key = values.get("api_id"), values.get("api_key")
    if values.get("keyring") is True and isinstance(api_id, str):
        api_key = keyring_key.load(api_id)
    return checked(api_id, api_key, f"the credentials file {path}")


def in_keyring(path: Path) -> str | None:
    """The API ID of a file whose key is in the keyring, else None."""
    try:
        values = _values(path)
    except SetupError:
        return None
    api_id = values.get("api_id")
    return api_id if values.get("keyring") is True and isinstance(api_id, str) else None


def _values(path: Path) -> Mapping[str, object]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise SetupError(f"The credentials file {path} cannot be used: {reason}.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SetupError(f"The credentials file {path} is not a regular file.")
        if status.st_uid != os.geteuid():
            raise SetupError(f"The credentials file {path} belongs to somebody else.")
        if status.st_mode & 0o077:
            raise SetupError(f"Others can read the credentials file {path}. Run: chmod 600 {path}")
        raw = os.read(descriptor, MAX_FILE_BYTES)
    finally:
        os.close(descriptor)
    try:
        values = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        values = None
    if values is None:  # outside the handler: the parser's message could quote the key
        raise SetupError(f"The credentials file {path} is not valid TOML; it needs api_id and api_key.")
    return values


def store(path: Path, credentials: Credentials, *, keyring: bool = False) -> None:
    """Write a file for :func:`from_file`, over what is there; *keyring*: the key goes there. Raises SetupError."""
    kept_id = in_keyring(path)
    if keyring:
        keyring_key.store(credentials.api_id, credentials.api_key)
        _write(path, f"api_id = {json.dumps(credentials.api_id)}\nkeyring = true\n")
    else:
        _write(
            path, f"api_id = {json.dumps(credentials.api_id)}\napi_key = {json.dumps(credentials.api_key)}\n"
        )
    if kept_id is not None and (kept_id != credentials.api_id or not keyring):
        keyring_key.remove(kept_id)


def _write(path: Path, text: str) -> None:
    """Make *path* a file with *text*, whole or not at all, that nobody else can read. Raises SetupError."""
    from imagefs.store.files import sync_directory_at  # noqa: PLC0415  # loads the store, which only this needs

    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Its mode is 0600 from the beginning.
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink()
            raise
        sync_directory_at(path.parent)
    except OSError as error:
        raise SetupError(f"The credentials file {path} cannot be written: {error.strerror}.") from error


def checked(api_id: object, api_key: object, origin: str) -> Credentials:
    """Credentials of the right form (16 and 128 characters). Raises SetupError, which never shows them."""
    for name, value, length in (("api_id", api_id, ID_LENGTH), ("api_key", api_key, KEY_LENGTH)):
        if not isinstance(value, str) or not value:
            raise SetupError(f"There is no {name} in {origin}.")
        if len(value) != length:
            raise SetupError(f"The {name} in {origin} has {len(value)} characters; it should have {length}.")
        if not value.isascii() or not value.isprintable():
            raise SetupError(f"The {name} in {origin} holds characters that no {name} has.")
    return Credentials(str(api_id), str(api_key))
