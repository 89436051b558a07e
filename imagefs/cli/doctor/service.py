"""Checks of the account and the service: credentials, reachability, clock, and whether content can be read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from imagefs.cli.doctor.findings import Finding, failure, ok, warning
from imagefs.cli.service import PATIENCE_S, client_of
from imagefs.cli.settings import Settings
from imagefs.cli.sizes import count_of
from imagefs.core.models import DOCUMENTED_REGIONS, ListedImage, Phase
from imagefs.errors import CredentialsRefused, ImagefsError, ServiceError, SetupError, TlsFailure, Unreachable

if TYPE_CHECKING:
    from imagefs.api import ServiceClient


def check_service(settings: Settings) -> Iterator[Finding]:
    """All checks of the account. Nothing in it is changed, and one byte is read of an image of each region."""
    try:
        account = settings.credentials()
    except SetupError as error:
        yield failure("credentials", str(error), "imagefs login")
        return
    yield ok("credentials", f"API ID {account.api_id}, with a key")
    try:
        client = client_of(settings, account)
    except SetupError as error:
        yield failure(
            "service", str(error), "Correct --api-url, or the settings it comes from (imagefs config show)"
        )
        return
    try:
        yield from _service(client, settings["api_url"])
    finally:
        client.close()


def _service(client: ServiceClient, api_url: str) -> Iterator[Finding]:
    began_s = time.monotonic()
    try:
        images = client.list_images(deadline_s=PATIENCE_S).images
    except ServiceError as error:
        yield failure("service", str(error), _remedy(error))
        return
    took_ms = (time.monotonic() - began_s) * 1000
    secured = "the certificate is right" if api_url.startswith("https:") else "this machine, without TLS"
    yield ok("service", f"{api_url} answers in {took_ms:.0f} ms; {secured}; {count_of(len(images))}")
    if client.clock_offset_s is not None:
        yield _clock(client.clock_offset_s)
    seen = (image.region for image in images)
    for region in dict.fromkeys((*DOCUMENTED_REGIONS, *seen)):
        yield _region(client, region)


def _remedy(error: ServiceError) -> str:
    if isinstance(error, CredentialsRefused):
        return "imagefs login, and see that the clock is right (timedatectl)"
    if isinstance(error, TlsFailure):
        return (
            "See that the clock is right (timedatectl); behind a proxy of your own: REQUESTS_CA_BUNDLE=FILE"
        )
    if isinstance(error, Unreachable):
        return "See that the network is there; behind a proxy: HTTPS_PROXY=URL"
    return "Try again later; if it stays, see that --api-url is right"


def _clock(offset_s: float) -> Finding:
    from imagefs.api.verdicts import skew_of  # noqa: PLC0415  # loads requests, which not every command needs

    skew = skew_of(offset_s)
    if skew is None:
        return ok("clock", f"Within {max(abs(offset_s), 1):.0f} s of the service's")
    return warning(
        "clock",
        f"{skew}: calls are signed with the time, and may be refused.",
        "sudo timedatectl set-ntp true",
    )


def _region(client: ServiceClient, region: str) -> Finding:
    what = f"region {region}"
    try:
        images = client.list_images(region, deadline_s=PATIENCE_S).images
    except ServiceError as error:
        return failure(what, str(error), _remedy(error))
    readable = next((image for image in images if image.phase is Phase.ACTIVE), None)
    if readable is None:
        return ok(what, f"{count_of(len(images))}, none of which can be read now")
    return _content(client, what, len(images), readable)


def _content(client: ServiceClient, what: str, count: int, image: ListedImage) -> Finding:
    """The first byte of *image*, which also tells what the service can do."""
    try:
        details = client.image_details(image.image_id, deadline_s=PATIENCE_S)
        size_bytes = details.size_bytes
        if not size_bytes:
            return ok(what, f"{count_of(count)}; {image.name!a} has no bytes to try")
        with_range = size_bytes > 1
        body = client.retrieve(
            image.image_id,
            size_bytes,
            0,
            1 if with_range else None,
            stall_s=PATIENCE_S,
            deadline_s=PATIENCE_S,
        )
        try:
            body.read_into(memoryview(bytearray(1)))
        finally:
            body.close()
    except ImagefsError as error:
        remedy = _remedy(error) if isinstance(error, ServiceError) else "Try again later: imagefs doctor"
        return failure(what, f"{count_of(count)}, but {image.name!a} cannot be read: {error}", remedy)
    length = "the length is announced" if body.framed else "the length is not announced"
    if with_range and not body.ranged:
        return warning(
            what,
            f"{count_of(count)}, readable, but from the beginning only: Range is not honoured; {length}",
            "Nothing to do here: a first look at the end of an image waits for all of it",
        )
    return ok(what, f"{count_of(count)}, readable; Range is honoured; {length}")
