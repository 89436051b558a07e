"""How the commands in this directory end."""

from __future__ import annotations

import signal
import sys

import click

from benchmarks.machine import BenchError

INTERRUPTED = 130


def run(command: click.Command, name: str, failures: tuple[type[Exception], ...] = ()) -> int:
    """Run *command*, called *name*; its exit status. Those *failures*, and BenchError, are one line on standard error.

    SIGTERM and SIGHUP end it as Ctrl-C does, so that everything is cleared away. So does SIGINT also where it was
    ignored, as a shell starts what it sends to the background: the programs that are started here would inherit that.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return int(command.main(prog_name=name, standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (BenchError, *failures) as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
