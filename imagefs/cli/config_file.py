"""The configuration file: options of mounts, for all accounts and for each profile.

::

    cache_size = "50G"              # for all

    [profiles.work]                 # with --profile work, beside and before what is for all
    api_url = "https://..."
    read_only = true
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click
import platformdirs

from imagefs.cli.mount_options import BY_KEY, MountOption
from imagefs.cli.sizes import Size
from imagefs.errors import SetupError

MAX_FILE_BYTES: Final = 1 << 20

_PROFILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def default_file() -> Path:
    """The file in the user's configuration directory."""
    return platformdirs.user_config_path("imagefs") / "config.toml"


def checked_profile(name: str) -> str:
    """*name*, if it can be a profile's; it becomes part of a file name. Raises SetupError."""
    if not _PROFILE.fullmatch(name):
        raise SetupError(f"{name!r} cannot be a profile's name: use letters, digits, - and _.")
    return name


def load(path: Path, profile: str | None) -> dict[str, object]:
    """The values in the file for *profile*, by key; those for all where it says nothing else.

    A file that is not there is an empty one. The profile need not be in it. Raises SetupError, in one line, for
    whatever is wrong in any part of the file.
    """
    values = _read(path)
    profiles = values.pop("profiles", {})
    if not isinstance(profiles, dict):
        raise SetupError(f"{path}: profiles must be tables, like [profiles.work].")
    found = _checked(path, "", values)
    for name, table in profiles.items():
        if not _PROFILE.fullmatch(name) or not isinstance(table, dict):
            raise SetupError(f"{path}: {name!r} is not a profile, like [profiles.work].")
        own = _checked(path, f"profiles.{name}.", table)
        if name == profile:
            found |= own
    return found


def _read(path: Path) -> dict[str, object]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SetupError(f"The configuration file {path} cannot be read: {error.strerror}.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SetupError(f"The configuration file {path} is not a regular file.")
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
            raise SetupError(f"Others can write the configuration file {path}. Run: chmod go-w {path}")
        return tomllib.loads(os.read(descriptor, MAX_FILE_BYTES).decode("utf-8"))
    except OSError as error:
        raise SetupError(f"The configuration file {path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SetupError(f"The configuration file {path} is not valid TOML: {error}.") from error
    finally:
        os.close(descriptor)


def _checked(path: Path, prefix: str, table: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in table.items():
        option = BY_KEY.get(key)
        if option is None:
            raise SetupError(f"{path}: {prefix}{key} is not known; see: imagefs config show")
        try:
            found[key] = _value(option, value)
        except click.BadParameter as error:
            raise SetupError(f"{path}: {prefix}{key}: {error.message}") from error
    return found


def _value(option: MountOption, value: object) -> object:
    """*value* as a mount takes it. Raises click.BadParameter for another type or no such value."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.BadParameter("it is true or false, without quotes.")
        return value
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(option.type, click.IntRange):
        if not is_number:
            raise click.BadParameter("it is a number, without quotes.")
    elif not isinstance(value, str) and not (is_number and isinstance(option.type, Size)):
        raise click.BadParameter("it is a text in quotes.")
    if isinstance(option.type, click.Path):
        value = os.path.expanduser(str(value))  # noqa: PTH111  # as text: a bad user leaves it as it is
        if not os.path.isabs(value):  # noqa: PTH117  # as above
            raise click.BadParameter("it is a path that begins with / or ~/.")
    return option.parsed(value)
