"""Paths on the command line that nobody looks at before the command does."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem


class Untouched(click.ParamType[Path]):
    """A path that may lie on a mount that hangs: click's own type would stat(2) it, and hang as well."""

    name = "PATH"

    def convert(self, value: object, _param: click.Parameter | None, _ctx: click.Context | None) -> Path:
        """Never fails."""
        return Path(str(value))

    def shell_complete(
        self, _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """What the shell knows."""
        return [CompletionItem(incomplete, type="file")]


class ImageOperand(Untouched):
    """A path on a mount, or an image's ID."""

    name = "PATH|ID"
