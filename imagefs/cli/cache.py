"""``imagefs cache``, ``warm``, ``pin`` and ``unpin``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from imagefs.cli import settings
from imagefs.cli.asking import Found, ask, mountpoint_of, status_of
from imagefs.cli.caching import Cache, MountedCache, cache_of
from imagefs.cli.paths import ImageOperand, Untouched, image_id_in, path_of
from imagefs.cli.service import client_of, image_of
from imagefs.cli.showing import percent, plain, progress, show, size, table
from imagefs.cli.waiting import follow, going_on
from imagefs.errors import ImagefsError, SetupError
from imagefs.fuse.mounts import own_mount_above

NOTHING = "Nothing is cached."

Image = TypeVar("Image", Path, str)

_IMAGES = click.argument("images", nargs=-1, required=True, metavar="PATH|ID...", type=ImageOperand())


@click.group("cache")
def cache_command() -> None:
    """List, verify and drop what is cached on this machine.

    A running mount carries these commands out itself, and images can be named by path. Without one the commands open
    the cache, and images are named by their ID.
    """


@cache_command.command("where")
@settings.account_options
def where_command(**given: object) -> None:
    """Print the cache directory of the account.

    \b
    Example:
      du -sh "$(imagefs cache where)"
    """
    chosen = settings.settle(given)
    click.echo(os.fsencode(chosen.cache_dir(chosen.credentials().api_id)))  # as it is, for other programs


@cache_command.command("ls")
@settings.account_options
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def ls_command(as_json: bool, **given: object) -> None:
    """List what is cached, the longest unused first: that goes first when space is needed.

    \b
    Example:
      imagefs cache ls
    """
    with cache_of(settings.settle(given)) as cache:
        rows = cache.rows() if cache is not None else []
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    headers = ("IMAGE", "SIZE", "CACHED", "CHECKED", "PINNED", "USED")
    cells = (
        (
            row["path"] or row["checksum"] or row["image_id"],
            size(row["size"]),
            percent(row["cached"], row["size"]),
            "yes" if row["verified"] else "-",
            "yes" if row["pinned"] else "-",
            time.strftime("%Y-%m-%d %H:%M", time.localtime(row["used"])) if row["used"] else "-",
        )
        for row in rows
    )
    show(table(headers, cells, right=("SIZE", "CACHED")))


@cache_command.command("evict")
@_IMAGES
@settings.account_options
def evict_command(images: tuple[Path, ...], **given: object) -> int:
    """Drop the content of images from the cache, except what is being read. Pinned ones stay.

    \b
    Example:
      imagefs cache evict ~/images/toronto/old.iso
    """
    return _each(images, given, lambda cache, image: cache.evict(image))


@cache_command.command("clear")
@settings.account_options
def clear_command(**given: object) -> None:
    """Drop everything that is neither pinned nor being read.

    \b
    Example:
      imagefs cache clear
    """
    with cache_of(settings.settle(given)) as cache:
        if cache is None:
            click.echo(NOTHING)
            return
        before = sum(row["cached"] for row in cache.rows())
        cache.clear()
        left = sum(row["cached"] for row in cache.rows())
    click.echo(f"Dropped {size(before - left)}, kept {size(left)}.")


@cache_command.command("verify")
@settings.account_options
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def verify_command(as_json: bool, **given: object) -> int:
    """Read all that is cached and compare it with its checksums. What is damaged is dropped, to be fetched again.

    The status is 1 where anything was damaged or could not be compared.

    \b
    Example:
      imagefs cache verify
    """
    results = []
    with cache_of(settings.settle(given)) as cache, progress(measured=True) as bars:
        rows = cache.rows() if cache is not None else []
        task = bars.add_task("verifying", total=sum(row["cached"] for row in rows))
        for row in rows:
            assert cache is not None, "it has rows"
            checked = damaged = 0
            problem = None
            try:
                checked, damaged = cache.verify(row)
            except ImagefsError as error:
                problem = str(error)
            bars.advance(task, row["cached"])
            results.append({**row, "checked": checked, "damaged": damaged, "problem": problem})
    if as_json:
        click.echo(json.dumps(results, indent=2))
    else:
        _tell_verified(results)
    return 1 if any(result["damaged"] or result["problem"] for result in results) else 0


def _tell_verified(results: list[Found]) -> None:
    for result in results:
        name = plain(result["path"] or result["checksum"] or result["image_id"])
        if result["problem"]:
            click.echo(f"{name}: {plain(result['problem'])}")
        elif result["damaged"]:
            click.echo(f"{name}: {size(result['damaged'])} damaged, and dropped")
    checked = sum(result["checked"] for result in results)
    click.echo(f"{size(checked)} checked, {size(sum(result['damaged'] for result in results))} damaged.")


@click.command("pin")
@_IMAGES
@settings.account_options
def pin_command(images: tuple[Path, ...], **given: object) -> int:
    """Never evict the content of images. What is not cached yet comes when it is read, or with `imagefs warm`.

    \b
    Example:
      imagefs pin ~/images/toronto/golden.qcow2 && imagefs warm ~/images/toronto/golden.qcow2
    """
    return _each(images, given, lambda cache, image: cache.pin(image))


@click.command("unpin")
@_IMAGES
@settings.account_options
def unpin_command(images: tuple[Path, ...], **given: object) -> int:
    """Let the content of images be evicted again when space is needed.

    \b
    Example:
      imagefs unpin ~/images/toronto/golden.qcow2
    """
    return _each(images, given, lambda cache, image: cache.unpin(image))


def _each(images: tuple[Path, ...], given: dict[str, object], work: Callable[[Cache, str], None]) -> int:
    """Do *work* with each image, all of them on mounts or all by ID; 1 where one fails."""
    mounted = [image for image in images if own_mount_above(image) is not None]
    if mounted and len(mounted) < len(images):
        raise SetupError("Name all images by path on a mount, or all by ID.")
    if mounted:
        return _try_all(images, lambda image: work(MountedCache(mountpoint_of(image)), str(image)))
    image_ids = [image_id_in(image) for image in images]
    chosen = settings.settle(given)
    with cache_of(chosen) as cache:
        if cache is None:
            raise SetupError(NOTHING)
        if isinstance(cache, MountedCache):
            client, mountpoint = client_of(chosen, chosen.credentials()), cache.mountpoint
            return _try_all(
                image_ids, lambda image_id: work(cache, str(path_of(image_of(client, image_id), mountpoint)))
            )
        return _try_all(image_ids, lambda image_id: work(cache, image_id))


def _try_all(images: Sequence[Image], work: Callable[[Image], None]) -> int:
    failed = 0
    for image in images:
        try:
            work(image)
        except ImagefsError as error:
            failed = 1
            click.echo(f"imagefs: {plain(str(error))}", err=True)
    return failed


@click.command("warm")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=Untouched())
def warm_command(paths: tuple[Path, ...]) -> int:
    """Bring whole images on a mount into its cache, several at once; each is checked against its MD5.

    Ctrl-C leaves what has come so far in the cache. The status is 1 where the cache did not take all of it.

    \b
    Example:
      imagefs warm ~/images/toronto/*.iso
    """
    places = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100  # touches nothing
    sizes = _sizes(places)
    with going_on("What has come stays in the cache."), progress(measured=True) as bars:
        tasks = [
            bars.add_task(str(plain(place.name)), total=size_bytes or 1, note=size(size_bytes))
            for place, size_bytes in zip(places, sizes, strict=True)
        ]

        partly: list[int] = []

        def went_on(index: int, found: Found) -> None:
            if found.get("cached", found["read"]) < found["read"]:
                partly.append(index)
            bars.update(
                tasks[index], completed=found["read"], note=f"{size(found['read'])} of {size(sizes[index])}"
            )

        def ended(index: int, problem: str | None) -> None:
            outcome = "checked, but not all of it is cached" if index in partly else "cached and checked"
            bars.update(tasks[index], note=problem or outcome)
            if problem is None and (bars.disable or index in partly):
                click.echo(
                    f"{plain(str(places[index]))}: {size(sizes[index])} {outcome}", err=index in partly
                )

        return follow(("read",), places, went_on, ended) or (1 if partly else 0)


def _sizes(places: list[Path]) -> list[int]:
    """The images' sizes, 0 where they are not known; says so where they are more than the cache holds."""
    mountpoints = [mountpoint_of(place) for place in places]
    statuses = {mountpoint: status_of(mountpoint) for mountpoint in dict.fromkeys(mountpoints)}
    rows = ask("get", "user.imagefs.size", *places, within_s=60.0)
    if len(rows) < len(places):
        raise SetupError("The mount could not be asked.")
    sizes = [int(row["value"]) if row.get("value", "").isdecimal() else 0 for row in rows]
    for mountpoint, status in statuses.items():
        pairs = zip(mountpoints, sizes, strict=True)
        wanted = sum(size_bytes for point, size_bytes in pairs if point == mountpoint)
        limit = status["cache"].get("limit", wanted)
        if wanted > limit:
            click.echo(f"imagefs: {size(wanted)} are more than the cache of {size(limit)} holds.", err=True)
    return sizes
