"""Tables, bars and numbers for people, with colour and motion only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from imagefs.core.text import printable

PLAIN_WIDTH: Final = 10_000
"""Off a terminal, lines are as long as they are."""

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def console(stream: TextIO | None = None) -> Console:
    """Where to print to, by default standard output. NO_COLOR is heeded (https://no-color.org)."""
    stream = stream or sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str] = ()) -> Table:
    """A table of texts, which may come from anywhere: control characters are escaped. *right* are numbers."""
    made = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for header in headers:
        made.add_column(
            header, justify="right" if header in right else "left", no_wrap=True, overflow="ellipsis"
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else plain(str(cell)) for cell in row))
    return made


def show(made: RenderableType) -> None:
    """Print it: cut to the terminal's width, or elsewhere whole and without blanks at the ends of lines."""
    out = console()
    if out.is_terminal:
        out.print(made)
        return
    with out.capture() as capture:
        out.print(made)
    for line in capture.get().splitlines():
        out.out(line.rstrip())


def plain(text: str, style: str = "") -> Text:
    """A text from anywhere, on one line."""
    return Text(printable(text), style=style)


def size(size_bytes: float | None) -> str:
    """A number of bytes: ``1.5 GiB``."""
    if size_bytes is None:
        return "-"
    unit = 0
    while size_bytes >= 1024 and unit < len(_UNITS) - 1:
        size_bytes /= 1024
        unit += 1
    return (
        f"{size_bytes:.0f} {_UNITS[unit]}"
        if unit == 0 or size_bytes >= 100
        else f"{size_bytes:.1f} {_UNITS[unit]}"
    )


def span(seconds: float) -> str:
    """A time span: ``2 h 13 min``, ``4 min 5 s``, ``12 s``."""
    whole = max(0, round(seconds))
    for unit, length_s, lesser in (("d", 86400, "h"), ("h", 3600, "min"), ("min", 60, "s")):
        if whole >= length_s:
            rest = whole % length_s // {"h": 3600, "min": 60, "s": 1}[lesser]
            return f"{whole // length_s} {unit} {rest} {lesser}"
    return f"{whole} s"


def percent(part: float, whole: float) -> str:
    """*part* as a percentage of *whole*; 100 % where that is 0."""
    return f"{100 * part / whole:.0f} %" if whole else "100 %"


class _Column(ProgressColumn):
    """A text of the task's own fields."""

    def render(self, task: Task) -> Text:
        return plain(str(task.fields.get("note", "")))


def progress(*, measured: bool) -> Progress:
    """Bars on standard error where that is a terminal, else nothing at all; with ``note=`` behind each."""
    first = BarColumn(bar_width=24) if measured else SpinnerColumn()
    err = console(sys.stderr)
    return Progress(
        first,
        TextColumn("{task.description}", markup=False),
        _Column(),
        console=err,
        disable=not err.is_terminal,
    )


def status_style(status: str) -> str:
    """The colour for an image's status."""
    return {"active": "green", "killed": "red", "error": "red", "deleted": "red"}.get(status, "yellow")
