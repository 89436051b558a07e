"""Prints the manual page imagefs(1), from the same source as ``--help``: ``python -m distribution.manpage``."""

from __future__ import annotations

import inspect
import os
import re
import time
from collections.abc import Iterator

import click

from imagefs import __version__, cli


def manual(day: str) -> str:
    """The whole page, in the macros of man(7)."""
    root = click.Context(cli.commands, info_name="imagefs", **cli.commands.context_settings)
    purpose = cli.commands.get_short_help_str(limit=200).rstrip(".")
    status = re.search(r"Exit status: (.*?)\.(?:\n\n|\n?$)", cli.__doc__ or "", re.DOTALL)
    assert status is not None
    lines = [
        f'.TH IMAGEFS 1 {day} "imagefs {__version__}" "User Commands"',
        *(".nh", ".ad l"),  # commands and paths are neither broken nor spread
        *(".SH NAME", f"imagefs \\- {_plain(purpose[0].lower() + purpose[1:])}"),
        *(".SH SYNOPSIS", ".B imagefs", ".I COMMAND", "[\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]..."),
        *(".SH DESCRIPTION", *_help(cli.commands.help or "")),
        ".SH COMMANDS",
        *(line for command in _commands(root) for line in _section(command)),
        *(".SH EXIT STATUS", _plain(" ".join(status[1].split())) + "."),
        *(
            ".SH ENVIRONMENT",
            "Each option that names a variable takes its value from there where it is not given.",
        ),
        *(".SH SEE ALSO", ".BR mount (8),", ".BR fusermount3 (1),", ".BR fuse (4)"),
    ]
    return "\n".join(lines) + "\n"


def _commands(context: click.Context) -> Iterator[click.Context]:
    """The contexts of all commands that do something, in the order of the help."""
    command = context.command
    if not isinstance(command, click.Group):
        yield context
        return
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from _commands(click.Context(below, info_name=name, parent=context, **below.context_settings))


def _section(context: click.Context) -> Iterator[str]:
    """One command: how it is called, what it does, its options."""
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f".SS {_plain(context.command_path)}"
    yield f".B {_plain(usage)}"
    yield ".PP"
    yield from _help(command.help or "")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1] and "--help" not in record[0]:
            yield from (".TP", f".B {_plain(record[0])}", _plain(" ".join(record[1].split())))
    if command.epilog:
        yield from (".PP", _plain(" ".join(command.epilog.split())))


def _help(text: str) -> Iterator[str]:
    """A help text: paragraphs, and as they stand those that click is told to leave alone."""
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b"):
            yield from (".nf", *map(_plain, paragraph.splitlines()[1:]), ".fi")
        else:
            yield _plain(" ".join(paragraph.split()))


def _plain(text: str) -> str:
    """*text* as it is, whatever roff would make of it."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("~", "\\(ti").replace("^", "\\(ha")
    return "\\&" + text if text.startswith(".") else text


if __name__ == "__main__":
    built_s = float(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    print(manual(time.strftime("%Y-%m-%d", time.gmtime(built_s))), end="")
