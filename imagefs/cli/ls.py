"""``imagefs ls``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.text import Text

from imagefs.cli import settings
from imagefs.cli.service import PATIENCE_S, client_of, in_parallel, listed
from imagefs.cli.showing import percent, plain, progress, show, size, status_style, table
from imagefs.core.models import DOCUMENTED_REGIONS, ImageDetails, ListedImage, Phase, account_name
from imagefs.errors import (
    MalformedAnswer,
    Overloaded,
    Refused,
    RefusedUnknownImage,
    ServiceError,
    SetupError,
)
from imagefs.store.peek import peek_cached_bytes, peek_details

if TYPE_CHECKING:
    from imagefs.api import ServiceClient

PARALLEL: Final = 16
"""How many images are asked for side by side."""


@dataclass(frozen=True, slots=True)
class _Row:
    image: ListedImage
    details: ImageDetails | None
    cached_bytes: int
    problem: str | None = None


@click.command("ls")
@click.argument("region", required=False)
@settings.account_options
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def ls_command(region: str | None, as_json: bool, **given: object) -> None:
    """List the images of the account, or those in REGION, without mounting it.

    Also works beside a running mount, which is not asked.

    \b
    Example:
      imagefs ls toronto
      imagefs ls --json | jq -r '.[] | select(.status != "active") | .id'
    """
    chosen = settings.settle(given)
    account = chosen.credentials()
    client = client_of(chosen, account)
    images = _in_region(listed(client), region)
    cache_dir = chosen.cache_dir(account.api_id)
    known = peek_details(cache_dir, account_name(chosen["api_url"], account.api_id))
    rows = sorted(_rows(client, images, known, cache_dir), key=lambda row: (row.image.region, row.image.name))
    if as_json:
        click.echo(json.dumps([_json(row) for row in rows], indent=2))
    else:
        headers = ("ID", "NAME", "REGION", "FORMAT", "SIZE", "STATUS", "CREATED", "CACHED")
        show(table(headers, map(_cells, rows), right=("SIZE", "CACHED")))
        for row in rows:
            if row.problem:
                click.echo(f"imagefs: {plain(row.image.name)}: {plain(row.problem)}", err=True)


def _in_region(images: Sequence[ListedImage], region: str | None) -> Sequence[ListedImage]:
    regions = dict.fromkeys((*DOCUMENTED_REGIONS, *(image.region for image in images)))
    if region is None:
        return images
    if region not in regions:
        raise SetupError(f"There is no region {region!r}; there are {', '.join(regions)}.")
    return [image for image in images if image.region == region]


def _rows(
    client: ServiceClient, images: Iterable[ListedImage], known: dict[str, ImageDetails], cache_dir: Path
) -> list[_Row]:
    """A row for each image that is still there; what is not *known* is asked for.

    Raises ServiceError, and Overloaded only if that many fail that the service is to blame, and not these images.
    """
    rows, unknown, overloaded = [], [], 0
    for image in images:
        details = known.get(image.image_id) if image.phase is Phase.ACTIVE else None
        if details is not None and details.phase is Phase.ACTIVE:
            rows.append(_row(image, details, cache_dir))
        else:
            unknown.append(image)
    with progress(measured=True) as bars:
        task = bars.add_task("asking for details", total=len(unknown), visible=len(unknown) > PARALLEL)
        for image, found in in_parallel(lambda image: _details(client, image), unknown, PARALLEL):
            bars.advance(task)
            if isinstance(found, ImageDetails):
                rows.append(_row(image, found, cache_dir))
            elif found is not None:
                overloaded += isinstance(found, Overloaded)
                if overloaded > PARALLEL:
                    raise found
                rows.append(_Row(image, None, 0, str(found)))
    return rows


def _details(client: ServiceClient, image: ListedImage) -> ImageDetails | ServiceError | None:
    """The image's details; why it alone has none; or None where it is gone."""
    try:
        return client.image_details(image.image_id, deadline_s=PATIENCE_S)
    except RefusedUnknownImage:
        return None
    except (Refused, MalformedAnswer, Overloaded) as error:
        return error


def _row(image: ListedImage, details: ImageDetails, cache_dir: Path) -> _Row:
    key = details.content_key
    cached_bytes = peek_cached_bytes(cache_dir, key) if key else 0
    return _Row(image, details, cached_bytes, details.problem)


def _format(row: _Row) -> str | None:
    return None if row.details is None else dict(row.details.fields).get("disk_format")


def _created_s(row: _Row) -> float | None:
    created_ns = row.details.time_created_ns if row.details else None
    return None if created_ns is None else created_ns / 1e9


def _json(row: _Row) -> dict[str, Any]:
    created_s = _created_s(row)
    return {
        "id": row.image.image_id,
        "name": row.image.name,
        "region": row.image.region,
        "format": _format(row),
        "size": row.details.size_bytes if row.details else None,
        "status": row.image.status,
        "created": None if created_s is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created_s)),
        "checksum": row.details.checksum if row.details else None,
        "cached": row.cached_bytes,
        "problem": row.problem,
    }


def _cells(row: _Row) -> tuple[object, ...]:
    image, created_s = row.image, _created_s(row)
    size_bytes = row.details.size_bytes if row.details else None
    if image.phase is Phase.PENDING and not size_bytes:
        size_bytes = None  # the service has not got it yet
    return (
        image.image_id,
        image.name,
        image.region,
        _format(row) or "-",
        size(size_bytes),
        plain(image.status, status_style(image.status)),
        "-" if created_s is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(created_s)),
        Text("-") if not row.cached_bytes or not size_bytes else percent(row.cached_bytes, size_bytes),
    )
