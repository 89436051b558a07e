"""The options of a mount: one table for the command line, ``-o``, the environment, the configuration file and
what is written about them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from imagefs.cli.sizes import Size
from imagefs.core.models import DEFAULT_API_URL

LOG_LEVELS: Final = ("debug", "info", "warning", "error")

IGNORED: Final = frozenset(
    {"auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "defaults", "_netdev", "dev", "nodev",
     "suid", "nosuid", "exec", "noexec", "async", "sync", "dirsync", "atime", "noatime", "diratime", "nodiratime",
     "relatime", "norelatime", "strictatime", "nostrictatime", "lazytime", "nolazytime", "silent", "loud",
     "default_permissions"}
)  # fmt: skip
"""What fstab lines carry and FUSE or mount(8) settle by themselves: images are neither devices nor programs here."""

IGNORED_BEGINNINGS: Final = ("x-", "X-", "comment=", "user=")
"""The same, for options that others read (mount(8))."""

Command = TypeVar("Command", bound=Callable[..., Any])


class _Octal(click.ParamType[int]):
    name = "MASK"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(str(value), 8)
        except ValueError:
            number = -1
        if not 0 <= number <= 0o777:  # all permission bits
            self.fail(f"{value!r} is not a mask; write it in octal, like 022.", param, ctx)
        return number


class _Url(click.ParamType[str]):
    name = "URL"


class _Address(click.ParamType[str]):
    name = "ADDRESS:PORT"


_PATH: Final[click.ParamType[Any]] = click.Path(path_type=Path)
_OWNER: Final[click.ParamType[Any]] = click.IntRange(0, 2**32 - 2)


@dataclass(frozen=True, slots=True)
class MountOption:
    """One option, whichever way it is given.

    ``key`` is its name in the configuration file and with ``-o``. ``default`` is None where it is found out when
    it is needed; ``default_text`` then says how. ``off`` is the option that takes a flag back, and ``fstab``
    what mount(8) calls a flag and its opposite.
    """

    key: str
    type: click.ParamType[Any]
    help: str
    default: object = None
    default_text: str = ""
    off: str = ""
    fstab: tuple[str, str] = ("", "")

    @property
    def is_flag(self) -> bool:
        """Whether it is given without a value."""
        return self.type is click.BOOL

    @property
    def option(self) -> str:
        """The long option."""
        return "--" + self.key.replace("_", "-")

    @property
    def environment(self) -> str:
        """The variable of the environment."""
        return "IMAGEFS_" + self.key.upper()

    def parsed(self, value: object) -> object:
        """*value* as a mount takes it. Raises click.BadParameter."""
        return self.type.convert(value, None, None)


ACCOUNT_OPTIONS: Final = (
    MountOption("api_url", _Url(), "The service.", DEFAULT_API_URL, DEFAULT_API_URL),
    MountOption(
        "credentials",
        _PATH,
        "A TOML file with api_id and api_key that only you can read.",
        default_text="the environment (LUNANODE_API_ID, LUNANODE_API_KEY), else what `imagefs login` stored",
    ),
    MountOption(
        "cache_dir", _PATH, "Where images are cached.", default_text="one for each account, below ~/.cache/imagefs"
    ),
)  # fmt: skip
"""What tells one account from others, for commands that need no mount."""

MOUNT_OPTIONS: Final = (
    *ACCOUNT_OPTIONS,
    MountOption("cache_size", Size(16 << 20, 1 << 50), "How much is cached at most.", 20 << 30, "20G"),
    MountOption(
        "read_only", click.BOOL, "Refuse every change.", False, "off", off="--read-write", fstab=("ro", "rw")
    ),
    MountOption(
        "no_delete",
        click.BOOL,
        "Refuse to delete images, and to move them between regions.",
        False,
        "off",
        off="--delete",
    ),
    MountOption(
        "allow_other",
        click.BOOL,
        "Let other users of this machine read the images.",
        False,
        "off",
        off="--no-allow-other",
    ),
    MountOption(
        "allow_indexers",
        click.BOOL,
        "Let desktop searches and makers of thumbnails read the images, too.",
        False,
        "off",
        off="--no-allow-indexers",
    ),
    MountOption(
        "publish",
        _Url(),
        "Upload what is written: serve it at this address of this machine, from which the service fetches it.",
        default_text="content that no image has is refused",
    ),
    MountOption(
        "publish_listen",
        _Address(),
        "Where to listen for that.",
        default_text="the port of --publish, on all addresses",
    ),
    MountOption("publish_cert", _PATH, "A certificate (PEM) to speak TLS with.", default_text="no TLS"),
    MountOption("publish_key", _PATH, "The private key (PEM) of that.", default_text="none"),
    MountOption("uid", _OWNER, "Whose the files are.", default_text="yours"),
    MountOption("gid", _OWNER, "Their group.", default_text="yours"),
    MountOption("umask", _Octal(), "Permission bits to take away, in octal.", 0, "000"),
    MountOption(
        "log_file",
        _PATH,
        "The log.",
        default_text="in the background, below ~/.local/state/imagefs; else standard error",
    ),
    MountOption("log_level", click.Choice(LOG_LEVELS), "What is logged.", "info", "info"),
)
"""All of them, in the order of the help."""

BY_KEY: Final = {option.key: option for option in MOUNT_OPTIONS}


def options(table: Iterable[MountOption]) -> Callable[[Command], Command]:
    """Gives a command the options of *table*; one that was not given is None, whatever its default."""

    def decorate(command: Command) -> Command:
        for option in reversed(tuple(table)):
            command = _option(option)(command)
        return command

    return decorate


def _option(option: MountOption) -> Callable[[Command], Command]:
    names = f"{option.option}/{option.off}" if option.off else option.option
    return click.option(
        names,
        option.key,
        type=option.type,
        default=None,
        envvar=option.environment,
        show_envvar=True,
        help=f"{option.help} Default: {option.default_text}.",
    )


def parse_fstab(texts: Iterable[str]) -> dict[str, object]:
    """The options in *texts*, each a comma-separated list, by key; ``profile`` beside those of the table.

    The last of two wins. Raises click.UsageError for one that is not known or has no such value.
    """
    found: dict[str, object] = {}
    flags = {option.key: (option.key, True) for option in MOUNT_OPTIONS if option.is_flag}
    for option in MOUNT_OPTIONS:
        flags |= {
            name: (option.key, on) for name, on in zip(option.fstab, (True, False), strict=True) if name
        }
    for text in (text.strip() for joined in texts for text in joined.split(",")):
        name, equals, value = text.partition("=")
        if text in flags:
            key, is_on = flags[text]
            found[key] = is_on
        elif equals and name == "profile":
            found[name] = value
        elif equals and name in BY_KEY and not BY_KEY[name].is_flag:
            found[name] = _fstab_value(BY_KEY[name], value)
        elif text and text not in IGNORED and not text.startswith(IGNORED_BEGINNINGS):
            raise click.UsageError(f"The mount option {text!r} is not known.")
    return found


def _fstab_value(option: MountOption, value: str) -> object:
    try:
        return option.parsed(value)
    except click.BadParameter as error:
        raise click.UsageError(f"The mount option {option.key}={value} is wrong: {error.message}") from error
