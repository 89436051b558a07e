"""``imagefs fetch``, ``replicate`` and ``wait``: new images, through a mount where there is one.

A mount writes into its journal what it asks the service for, and finds out itself what became of a request whose
answer was lost. Without one the command asks the service once, and says so where the answer does not come.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imagefs.cli import settings
from imagefs.cli.asking import CHANGE_S, STATUS_S, ask, ask_one, live_mount, mountpoint_of, require_region
from imagefs.cli.paths import ImageOperand, Untouched, image_id_in, path_of
from imagefs.cli.service import client_of, image_of
from imagefs.cli.showing import plain
from imagefs.cli.waiting import submit_and_wait, wait_by_service, wait_through_mount
from imagefs.core.control_lines import FORMATS, FetchRequest, parse_line
from imagefs.core.models import ListedImage
from imagefs.core.names import CONTROL_NAME, encode, split_id
from imagefs.core.text import sentence
from imagefs.errors import AnswerLost, InvalidArgument, Refused, ServiceError, SetupError
from imagefs.fuse.mounts import own_mount_above

if TYPE_CHECKING:
    from imagefs.api import ServiceClient

_WAIT = click.option(
    "--wait", is_flag=True, help="Wait until the image is active; Ctrl-C ends only the waiting."
)


@click.command("fetch")
@click.argument("url")
@click.option("--region", required=True, help="Where the image is to be.")
@click.option("--name", help="Its name. Default: the last part of the URL's path.")
@click.option("--format", "image_format", type=click.Choice(FORMATS), help="Default: by the name's ending.")
@click.option("--virtio", is_flag=True, help="Machines made of it get virtio drivers.")
@_WAIT
@settings.account_options
def fetch_command(
    url: str,
    region: str,
    name: str | None,
    image_format: str | None,
    virtio: bool,
    wait: bool,
    **given: object,
) -> int:
    """Have the service download an image from URL (http, https or ftp).

    \b
    Example:
      imagefs fetch https://example.org/debian-12.iso --region toronto --wait
    """
    chosen = settings.settle(given)
    named = {"name": name, "format": image_format, "virtio": "yes" if virtio else None}
    line = shlex.join([url, *(f"{key}={value}" for key, value in named.items() if value is not None)])
    try:
        request = parse_line(line)
    except InvalidArgument as error:
        raise SetupError(str(error).replace("format=", "--format ")) from error
    if request is None:
        raise SetupError("There is no URL.")
    account = chosen.credentials()
    mount = live_mount(account.api_id, chosen["api_url"])
    if mount is None:
        return _fetch_by_service(client_of(chosen, account), request, region, wait)
    require_region(mount.path, region)
    control_file = mount.path / encode(region) / CONTROL_NAME
    words = f"Fetching {plain(request.shown_url)} as {plain(request.name)} in {plain(region)}."
    if wait:
        return submit_and_wait(f"{line}\n", control_file, request.name, lambda: click.echo(words))
    ask_one("write", f"{line}\n", control_file, within_s=CHANGE_S)
    click.echo(words)
    return 0


def _fetch_by_service(client: ServiceClient, request: FetchRequest, region: str, wait: bool) -> int:
    try:
        image_id = client.fetch_image(
            region=region,
            name=request.name,
            location=request.url,
            image_format=request.image_format,
            virtio=request.virtio,
        )
    except AnswerLost as error:
        raise _lost(error, region) from error
    click.echo(f"Fetching {plain(request.shown_url)} as image {image_id}.")
    if wait:
        wait_by_service(client, image_id, request.name)
    return 0


@click.command("replicate")
@click.argument("source", type=ImageOperand(), metavar="PATH|ID")
@click.argument("region")
@click.option("--name", help="The replica's name. Default: that of the source.")
@_WAIT
@settings.account_options
def replicate_command(source: Path, region: str, name: str | None, wait: bool, **given: object) -> int:
    """Have the service copy an image, by its path on a mount or its ID, to REGION. No content passes through here.

    \b
    Example:
      imagefs replicate ~/images/toronto/debian-12.iso montreal --wait
      imagefs replicate 84473 roubaix --name rescue.iso
    """
    if own_mount_above(source) is not None:
        return _replicate_through_mount(source, mountpoint_of(source), region, name, wait)
    image_id = image_id_in(source)
    chosen = settings.settle(given)
    account = chosen.credentials()
    client = client_of(chosen, account)
    image = image_of(client, image_id)
    mount = live_mount(account.api_id, chosen["api_url"])
    if mount is None:
        return _replicate_by_service(client, image, region, name, wait)
    path = path_of(image, mount.path)
    return _replicate_through_mount(path, mount.path, region, name or image.name, wait)


def _replicate_through_mount(path: Path, mountpoint: Path, region: str, name: str | None, wait: bool) -> int:
    parts = split_id(path.name)
    file_name = encode(name) if name is not None else parts[0] if parts else path.name
    target = mountpoint / encode(region) / file_name
    require_region(mountpoint, region)
    ask_one("get", "user.imagefs.id", path, within_s=STATUS_S)  # fails where the source is missing
    ask_one("link", path, target, within_s=CHANGE_S)
    click.echo(f"Replicating {plain(str(path))} as {plain(str(target))}.")
    return wait_through_mount([target]) if wait else 0


def _replicate_by_service(
    client: ServiceClient, image: ListedImage, region: str, name: str | None, wait: bool
) -> int:
    try:
        replica_id = client.replicate_image(image.image_id, region)
    except AnswerLost as error:
        raise _lost(error, region) from error
    click.echo(f"Replicating {plain(image.name)} as image {replica_id}.")
    is_named = name is None or name == image.name or _renamed(client, replica_id, name)
    if wait:
        wait_by_service(client, replica_id, name or image.name)
        if not is_named and name is not None:
            client.rename_image(replica_id, name)
    elif not is_named:
        raise SetupError(
            f"The service names image {replica_id} only when it is active: use --wait, or rename it then."
        )
    return 0


def _renamed(client: ServiceClient, image_id: str, name: str) -> bool:
    try:
        client.rename_image(image_id, name)
    except Refused:
        return False  # while it is pending
    return True


def _lost(error: ServiceError, region: str) -> SetupError:
    return SetupError(
        f"{sentence(error)} The service may have begun all the same: see imagefs ls {region} before you try it"
        " again."
    )


@click.command("wait")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=Untouched())
def wait_command(paths: tuple[Path, ...]) -> int:
    """Wait until the images at PATH..., on a mount, are active.

    The status is 1 where one of them fails or is gone, and 130 after Ctrl-C, which ends only the waiting.

    \b
    Example:
      imagefs wait ~/images/montreal/*.iso && echo all there
    """
    for mountpoint in dict.fromkeys(map(mountpoint_of, paths)):
        ask("get", "user.imagefs.pid", mountpoint, within_s=STATUS_S)  # whether it answers at all
    return wait_through_mount([Path(os.path.abspath(path)) for path in paths])  # noqa: PTH100  # touches nothing
