"""The commands, their arguments and exit codes.

Exit status: 0 done, 1 it could not be done (one line on stderr says why), 2 wrong arguments, 130 interrupted.

=================  ===============================================================
``mount``          ``umount``; ``mount_helper``: for mount(8)
``login``          ``logout``, ``whoami``; ``credentials`` and ``keyring_key``: where they are kept
``ls``             the account, without mounting it
``status``         how mounts are doing
``making``         ``fetch``, ``replicate``, ``wait``; ``waiting``: with something to see meanwhile
``cache``          ``warm``, ``pin``, ``unpin``; ``caching``: the cache that they work on
``config``         where each option of a mount comes from
``doctor``         what keeps mounts from working
``completion``     completion in shells; ``system_file``: units for systemd and a udev rule
``demo``           ``demo_tour``: its steps; ``demo_source``: a web server; ``stop_request``: Ctrl-C
``settings``       from ``mount_options``, the table, ``config_file``, the environment; ``sizes``
``asking``         asking a mount without hanging with it
``service``        asking the service
``paths``          paths that nobody looks at before the command does
``background``     going on in the background; ``service_manager``: telling systemd
``streams``        standard streams that are there and take any text
``logs``           where the log goes
``privacy``        keeps others from the memory of this process
``showing``        tables, bars and numbers
=================  ===============================================================
"""

from __future__ import annotations

import importlib
import signal
import sys
from collections.abc import Sequence
from typing import Final

import click

from imagefs import __version__
from imagefs.cli import streams
from imagefs.cli.privacy import keep_memory_private
from imagefs.core.text import printable
from imagefs.errors import ImagefsError

INTERRUPTED: Final = 130
"""The exit status after Ctrl-C, as shells have it: 128 and the signal's number."""

_COMMANDS: Final = {
    "login": (
        "imagefs.cli.login:login_command",
        "Try the API ID and key of an account, and store them.",
    ),
    "logout": ("imagefs.cli.login:logout_command", "Remove what login stored."),
    "whoami": (
        "imagefs.cli.login:whoami_command",
        "Show whose account it is, and whether its key is accepted.",
    ),
    "mount": ("imagefs.cli.mount:mount_command", "Mount the account on a directory."),
    "umount": ("imagefs.cli.umount:umount_command", "Unmount it, and wait until its cache is at rest."),
    "ls": ("imagefs.cli.ls:ls_command", "List the images of the account, without mounting it."),
    "fetch": ("imagefs.cli.making:fetch_command", "Have the service download an image."),
    "replicate": (
        "imagefs.cli.making:replicate_command",
        "Have the service copy an image to another region.",
    ),
    "wait": ("imagefs.cli.making:wait_command", "Wait until images are active."),
    "status": ("imagefs.cli.status:status_command", "Show how mounts are doing."),
    "warm": ("imagefs.cli.cache:warm_command", "Bring whole images into the cache."),
    "cache": ("imagefs.cli.cache:cache_command", "List, verify and drop what is cached."),
    "pin": ("imagefs.cli.cache:pin_command", "Never evict images from the cache."),
    "unpin": ("imagefs.cli.cache:unpin_command", "Let them be evicted again."),
    "config": ("imagefs.cli.config:config_command", "Show the options of mounts."),
    "doctor": (
        "imagefs.cli.doctor:doctor_command",
        "Look for what keeps mounts from working, or makes them slow.",
    ),
    "completion": (
        "imagefs.cli.completion:completion_command",
        "Print the script for completion in a shell.",
    ),
    "system-file": (
        "imagefs.cli.system_file:system_file_command",
        "Print a unit for systemd, or a udev rule.",
    ),
    "demo": ("imagefs.cli.demo:demo_command", "Take a tour of an account that lives on this machine only."),
    "emulator": ("imagefs.emulator.command:emulator_command", "Serve a stand-in for the service."),
}
"""Where each command is, and what it is for."""


class _Lazy(click.Group):
    """Loads a command only when it is asked for: some need extras, and all need time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, purpose) for name, (_, purpose) in _COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="imagefs")
def commands() -> None:
    """Mount the disk images of a LunaNode account as files."""
    keep_memory_private()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Every failure is one line on stderr."""
    streams.stand_in()
    streams.bear_any_text()
    try:
        status = _run(arguments)
    except KeyboardInterrupt:  # while that line was written
        status = INTERRUPTED
    if arguments is None:
        # While the process ends, Ctrl-C would only print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return status


def _run(arguments: Sequence[str] | None) -> int:
    try:
        status = commands.main(args=arguments, prog_name="imagefs", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.UsageError as error:
        return _fail(f"{error.format_message()} (see: {_help_of(error)})", 2)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except (ImagefsError, OSError) as error:  # OSError: such as a full disk that the output goes to
        return _fail(_reason_of(error), 1)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED)
    return status if isinstance(status, int) else 0


def _reason_of(error: ImagefsError | OSError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _help_of(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "imagefs"
    return f"{command} --help"


def _fail(message: str, status: int) -> int:
    line = printable(" ".join(message.split()))
    print(f"imagefs: {line}", file=sys.stderr)  # this is the place where errors are printed
    return status
