"""Paths on the command line that nobody looks at before the command does, and what stands in for one."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import CompletionItem

from imagefs.core.models import ListedImage
from imagefs.core.names import lasting_path
from imagefs.errors import SetupError


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


def image_id_in(operand: Path) -> str:
    """The ID that *operand* is, as it is no path on a mount. Raises SetupError."""
    image_id = str(operand)
    if not image_id.isdecimal():
        raise SetupError(f"{operand} is neither on a mount of imagefs nor an image's ID.")
    return image_id


def path_of(image: ListedImage, mountpoint: Path) -> Path:
    """Where a mount has *image*, whatever others are called."""
    return mountpoint / lasting_path(image.region, image.name, image.image_id)
