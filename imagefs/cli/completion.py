"""``imagefs completion``."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")

VARIABLE: Final = "_IMAGEFS_COMPLETE"
"""By this variable in the environment click knows that a shell asks for completions (click's documentation)."""


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the script that completes commands and options of imagefs in SHELL.

    The Debian package has installed it already.

    \b
    Examples:
      imagefs completion bash > ~/.local/share/bash-completion/completions/imagefs
      imagefs completion zsh > ~/.zfunc/_imagefs        # with ~/.zfunc in fpath
      imagefs completion fish > ~/.config/fish/completions/imagefs.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(context.find_root().command, {}, "imagefs", VARIABLE).source())
