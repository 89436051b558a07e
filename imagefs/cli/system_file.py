"""``imagefs system-file``: what systemd and udev are given, with this installation's own path in it."""

from __future__ import annotations

import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Final

import click

FILES: Final = {
    "user.service": "~/.config/systemd/user/imagefs@.service",
    "system.service": "/etc/systemd/system/imagefs@.service",
    "readahead.rules": "/etc/udev/rules.d/90-imagefs.rules",
}
"""The files, and where each goes."""


def text_of(name: str, program: Path) -> str:
    """The file *name* of :data:`FILES`, for imagefs at the path *program*."""
    template = resources.files("imagefs.cli").joinpath("system_files", name).read_text(encoding="utf-8")
    return template.replace("@IMAGEFS@", str(program))


@click.command("system-file", epilog="Where they go: " + ", ".join(FILES.values()) + ".")
@click.argument("name", type=click.Choice(list(FILES)))
def system_file_command(name: str) -> None:
    """Print a unit for systemd (of a user, or the system's), or the udev rule for a larger readahead.

    The Debian package has installed them already.

    \b
    Example:
      imagefs system-file user.service > ~/.config/systemd/user/imagefs@.service
    """
    click.echo(text_of(name, _program()), nl=False)


def _program() -> Path:
    """Where this imagefs is called from, as an absolute path that is not that of a temporary link."""
    called = shutil.which(sys.argv[0]) or sys.argv[0]
    return Path(called).absolute()
