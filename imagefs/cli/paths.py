"""Paths on the command line that nobody looks at before the command does."""

from __future__ import annotations

from pathlib import Path

import click


class Untouched(click.ParamType[Path]):
    """A path that may lie on a mount that hangs: click's own type would stat(2) it, and hang as well."""

    name = "PATH"

    def convert(self, value: object, _param: click.Parameter | None, _ctx: click.Context | None) -> Path:
        """Never fails."""
        return Path(str(value))
