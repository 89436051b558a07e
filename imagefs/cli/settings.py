"""The settings of a command, and where each value comes from: option, environment, configuration file, default."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import click
import platformdirs
from click.core import ParameterSource

from imagefs.cli import config_file, credentials
from imagefs.cli.mount_options import ACCOUNT_OPTIONS, MOUNT_OPTIONS, MountOption, options, parse_fstab
from imagefs.core.models import Credentials, account_name
from imagefs.errors import SetupError

Origin = Literal["option", "environment", "file", "default"]

Command = TypeVar("Command", bound=Callable[..., Any])

_PROFILE_OPTION: Final = click.option(
    "--profile",
    envvar="IMAGEFS_PROFILE",
    metavar="NAME",
    help="The account and options of [profiles.NAME] in the configuration file.",
)

_FSTAB_OPTION: Final = click.option(
    "-o",
    "fstab_options",
    multiple=True,
    metavar="OPT,...",
    help="Options as in fstab: ro, profile=NAME, and those below with _ for -, such as cache_size=50G.",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and where it comes from; ``source`` names the option, the variable or the file."""

    value: Any
    origin: Origin
    source: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a command by key, for the profile that was asked for."""

    profile: str | None
    file: Path
    by_key: Mapping[str, Setting]

    def __getitem__(self, key: str) -> Any:
        return self.by_key[key].value

    def credentials(self) -> Credentials:
        """The account's ID and key. Raises SetupError.

        A file that the command line or the environment names comes first, then, without a profile, LUNANODE_API_ID
        and LUNANODE_API_KEY, then the file that the configuration names, or that `imagefs login` stores.
        """
        named = self.by_key["credentials"]
        file = named.value if named.origin in ("option", "environment") else None
        if file is None and self.profile is not None and not os.path.lexists(self.credentials_file):
            raise SetupError(
                f"No credentials for the profile {self.profile}: run imagefs login --profile {self.profile}, or name a "
                f"file with --credentials, or in [profiles.{self.profile}] of {self.file}."
            )
        environment = os.environ if self.profile is None else {}
        return credentials.load(file, environment, self.credentials_file)

    @property
    def credentials_file(self) -> Path:
        """The file that credentials are read from where the environment holds none, and stored in."""
        return self["credentials"] or credentials.default_file(self.profile)

    @property
    def credentials_origin(self) -> str:
        """Where the credentials are: a file, or the variables of the environment."""
        named = self.by_key["credentials"].origin in ("option", "environment")
        if not named and self.profile is None and credentials.is_in(os.environ):
            return "LUNANODE_API_ID and LUNANODE_API_KEY"
        return str(self.credentials_file)

    def cache_dir(self, api_id: str) -> Path:
        """The cache directory of the account *api_id*, wherever a process goes."""
        own: Path | None = self["cache_dir"]
        default = platformdirs.user_cache_path("imagefs") / account_name(self["api_url"], api_id)
        return (own or default).absolute()


def account_options(command: Command) -> Command:
    """Gives *command* the options that choose an account; they reach it as ``given``."""
    return _PROFILE_OPTION(options(ACCOUNT_OPTIONS)(command))


def all_options(command: Command) -> Command:
    """Gives *command* all options of a mount, and ``-o``; they reach it as ``given``."""
    return _FSTAB_OPTION(_PROFILE_OPTION(options(MOUNT_OPTIONS)(command)))


def settle(given: Mapping[str, Any]) -> Settings:
    """The settings of the running command, which was *given* the options of one of the decorators above.

    Raises SetupError for a configuration file that is not sound, click.UsageError for ``-o``.
    """
    fstab = parse_fstab(given.get("fstab_options", ()))
    file = config_file.default_file()
    profile = _profile(given, fstab)
    from_file = config_file.load(file, profile)
    table = MOUNT_OPTIONS if "fstab_options" in given else ACCOUNT_OPTIONS
    by_key = {option.key: _setting(option, given, fstab, from_file, file) for option in table}
    return Settings(profile, file, by_key)


def _profile(given: Mapping[str, Any], fstab: Mapping[str, object]) -> str | None:
    name = given["profile"]
    if "profile" in fstab and _source_of("profile") is not ParameterSource.COMMANDLINE:
        name = str(fstab["profile"])
    return None if name is None else config_file.checked_profile(name)


def _setting(
    option: MountOption,
    given: Mapping[str, Any],
    fstab: Mapping[str, object],
    from_file: Mapping[str, object],
    file: Path,
) -> Setting:
    source = _source_of(option.key)
    if source is ParameterSource.COMMANDLINE:
        return Setting(given[option.key], "option", option.option)
    if option.key in fstab:
        return Setting(fstab[option.key], "option", "-o")
    if source is ParameterSource.ENVIRONMENT:
        return Setting(given[option.key], "environment", option.environment)
    if option.key in from_file:
        return Setting(from_file[option.key], "file", str(file))
    return Setting(option.default, "default")


def _source_of(parameter: str) -> ParameterSource | None:
    return click.get_current_context().get_parameter_source(parameter)
