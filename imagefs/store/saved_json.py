"""Listed images and details as JSON and back, for the index. Pure functions, any thread.

ASCII only: the escapes of JSON carry lone surrogates, which UTF-8 cannot.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from imagefs.core.models import ImageDetails, ListedImage


def dump_listing(images: Iterable[ListedImage]) -> bytes:
    """A listing as JSON: a list of [image_id, name, region, status]."""
    rows = [(image.image_id, image.name, image.region, image.status) for image in images]
    return json.dumps(rows, separators=(",", ":")).encode("ascii")


def load_listing(raw: bytes) -> tuple[ListedImage, ...]:
    """The listing that `dump_listing` made *raw* from."""
    return tuple(ListedImage(*row) for row in json.loads(raw))


def dump_details(details: ImageDetails) -> bytes:
    """Details as JSON."""
    record = {
        "image_id": details.image_id,
        "name": details.name,
        "region": details.region,
        "status": details.status,
        "size_bytes": details.size_bytes,
        "checksum": details.checksum,
        "time_created_ns": details.time_created_ns,
        "fields": details.fields,
        "problem": details.problem,
    }
    return json.dumps(record, separators=(",", ":")).encode("ascii")


def load_details(raw: bytes) -> ImageDetails:
    """The details that `dump_details` made *raw* from."""
    record = json.loads(raw)
    record["fields"] = tuple((name, value) for name, value in record["fields"])
    return ImageDetails(**record)
