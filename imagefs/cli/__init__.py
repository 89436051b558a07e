"""The commands, their arguments and exit codes.

Exit status: 0 done, 1 it could not be done (one line on stderr says why), 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from imagefs import __version__
from imagefs.cli.mount import mount_command
from imagefs.cli.umount import umount_command
from imagefs.errors import ImagefsError


class _Lazy(click.Group):
    """Loads the commands of the demo only when they are asked for: they need extras, and time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), "demo", "emulator"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "demo":
            from imagefs.cli.demo import demo_command  # noqa: PLC0415  # see above

            return demo_command
        if cmd_name == "emulator":
            from imagefs.emulator.command import emulator_command  # noqa: PLC0415  # see above

            return emulator_command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imagefs")
def commands() -> None:
    """Mount the disk images of a LunaNode account as files."""


commands.add_command(mount_command)
commands.add_command(umount_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Every failure is one line on stderr."""
    try:
        status = commands.main(args=arguments, prog_name="imagefs", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.UsageError as error:
        return _fail(f"{error.format_message()} (see: {_help_of(error)})", 2)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except ImagefsError as error:
        return _fail(str(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    return status if isinstance(status, int) else 0


def _help_of(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "imagefs"
    return f"{command} --help"


def _fail(message: str, status: int) -> int:
    line = " ".join(message.split())
    print(f"imagefs: {line}", file=sys.stderr)  # this is the place where errors are printed
    return status
