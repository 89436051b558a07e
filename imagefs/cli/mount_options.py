"""The ``-o OPT,...`` of mount(8): which of them mean something here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import click

IGNORED: Final = frozenset(
    {"rw", "auto", "noauto", "user", "nouser", "users", "nofail", "defaults", "_netdev", "dev", "nodev", "suid",
     "nosuid", "exec", "noexec", "async", "atime", "noatime", "relatime", "default_permissions"}
)  # fmt: skip
"""What fstab lines carry and FUSE or mount(8) settle by themselves: images are neither devices nor programs here."""


@dataclass(frozen=True, slots=True)
class FstabOptions:
    """The options that were given; None where they were not."""

    read_only: bool = False
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None


def parse(texts: Iterable[str]) -> FstabOptions:
    """The options in *texts*, each a comma-separated list. Raises click.UsageError for one that is not known."""
    flags: set[str] = set()
    numbers: dict[str, int] = {}
    for option in (option.strip() for text in texts for option in text.split(",")):
        name, equals, value = option.partition("=")
        if option in ("ro", "allow_other"):
            flags.add(option)
        elif equals and name in ("uid", "gid", "umask"):
            numbers[name] = _number(name, value)
        elif option and option not in IGNORED and not option.startswith("x-"):
            raise click.UsageError(f"The mount option {option!r} is not known.")
    return FstabOptions("ro" in flags, "allow_other" in flags, **numbers)


def _number(name: str, value: str) -> int:
    base = 8 if name == "umask" else 10
    try:
        number = int(value, base)
    except ValueError:
        number = -1
    if not 0 <= number <= (0o777 if name == "umask" else 2**32 - 2):
        raise click.UsageError(f"The mount option {name}={value} is not a valid {name}.")
    return number
