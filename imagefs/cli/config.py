"""``imagefs config``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from imagefs.cli import settings
from imagefs.cli.mount_options import BY_KEY
from imagefs.cli.settings import Setting, Settings
from imagefs.cli.sizes import Size, shown


@click.group("config")
def config_command() -> None:
    """The options of mounts."""


@config_command.command("show")
@settings.all_options
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def show_command(as_json: bool, **given: object) -> None:
    """Each option of `imagefs mount`, its value, and where that comes from.

    Takes the options of `imagefs mount`, to show what they change.

    \b
    Example:
      imagefs config show --profile work
    """
    chosen = settings.settle(given)
    rows = {key: _row(key, setting) for key, setting in chosen.by_key.items()}
    rows["credentials"] = _row("credentials", _credentials(chosen))
    if as_json:
        head = {"file": str(chosen.file), "profile": chosen.profile}
        click.echo(json.dumps({**head, "options": rows}, indent=2))
        return
    presence = "" if chosen.file.exists() else " (not there)"
    click.echo(f"# {chosen.file}{presence}" + (f", profile {chosen.profile}" if chosen.profile else ""))
    width = max(map(len, rows))
    for key, row in rows.items():
        origin = f"{row['origin']} {row['source']}".rstrip()
        click.echo(f"{key:<{width}} = {_toml(row['value']):<40}  # {origin}")


def _credentials(chosen: Settings) -> Setting:
    """Where the credentials are found, whatever that takes."""
    setting = chosen.by_key["credentials"]
    if chosen.credentials_origin != str(chosen.credentials_file):
        return Setting(None, "environment", chosen.credentials_origin)
    return Setting(chosen.credentials_file, setting.origin, setting.source)


def _row(key: str, setting: Setting) -> dict[str, Any]:
    """A setting as the configuration file would have it."""
    option, value = BY_KEY[key], setting.value
    if key == "umask":
        value = f"{value:03o}"
    elif isinstance(option.type, Size):
        value = shown(value)
    elif isinstance(value, Path):
        value = str(value)
    return {"value": value, "origin": setting.origin, "source": setting.source}


def _toml(value: object) -> str:
    """A value as TOML, on one line whatever is in it; a dash for none."""
    return "-" if value is None else json.dumps(value)
