"""``imagefs login``, ``logout`` and ``whoami``."""

from __future__ import annotations

import json
import os
import sys

import click

from imagefs.cli import credentials, keyring_key, settings
from imagefs.cli.service import client_of, listed
from imagefs.cli.sizes import count_of
from imagefs.errors import SetupError


@click.command("login")
@settings.account_options
@click.option(
    "--keyring", is_flag=True, help="Keep the key in the desktop's keyring, and only the ID in the file."
)
def login_command(keyring: bool, **given: object) -> None:
    """Ask for the API ID and the API key, try them, and store them where only you can read them.

    The key is not shown while it is typed. Without a terminal, both are read from standard input, a line each.
    Nothing is stored unless the service accepts them. A keyring takes the package keyring, and a desktop that is
    unlocked whenever something is mounted.

    \b
    Example:
      imagefs login
      imagefs login --profile work --keyring
    """
    chosen = settings.settle(given)
    file = chosen.credentials_file
    account = credentials.checked(*_typed(), "what was typed")
    images = listed(client_of(chosen, account))
    credentials.store(file, account, keyring=keyring)
    place = f"{file}, the key in the keyring" if keyring else file
    click.echo(f"The service accepts them: {count_of(len(images))}. Stored in {place}.")
    if chosen.profile is None and credentials.is_in(os.environ):
        click.echo("LUNANODE_API_ID and LUNANODE_API_KEY are set, and come before that file.", err=True)


@click.command("logout")
@settings.account_options
def logout_command(**given: object) -> None:
    """Remove what `imagefs login` stored. Mounts that are there go on.

    \b
    Example:
      imagefs logout --profile work
    """
    file = settings.settle(given).credentials_file
    kept_id = credentials.in_keyring(file)
    if kept_id is not None:
        keyring_key.remove(kept_id)
    try:
        file.unlink()
    except FileNotFoundError as error:
        raise SetupError(f"There are no stored credentials: {file} is not there.") from error
    except OSError as error:
        raise SetupError(f"{file} cannot be removed: {error.strerror}.") from error
    click.echo(f"Removed {file}.")


@click.command("whoami")
@settings.account_options
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def whoami_command(as_json: bool, **given: object) -> None:
    """Show whose account it is, and whether the service accepts its key.

    \b
    Example:
      imagefs whoami
    """
    chosen = settings.settle(given)
    account = chosen.credentials()
    origin = chosen.credentials_origin
    images = listed(client_of(chosen, account))
    if as_json:
        answer = {
            "api_id": account.api_id,
            "api_url": chosen["api_url"],
            "profile": chosen.profile,
            "credentials": origin,
            "images": len(images),
        }
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo(f"{account.api_id} at {chosen['api_url']}, by {origin}: {count_of(len(images))}.")


def _typed() -> tuple[str, str]:
    """The ID and the key as somebody typed them, or a program wrote them."""
    try:
        if sys.stdin.isatty():
            api_id: str = click.prompt("API ID", prompt_suffix=": ", err=True)
            api_key: str = click.prompt("API key (not shown)", prompt_suffix=": ", hide_input=True, err=True)
        else:
            api_id, api_key = sys.stdin.readline(), sys.stdin.readline()
        return api_id.strip(), api_key.strip()
    except UnicodeDecodeError:
        pass  # the error holds what was typed
    raise SetupError("What was typed is no text that an API ID or key can be.")
