"""The extended attributes of images and of the root: ``user.imagefs.*``."""

from __future__ import annotations

from typing import Final

from imagefs.core.models import ImageDetails, ListedImage
from imagefs.core.names import encode
from imagefs.errors import NoAttribute

PREFIX: Final = b"user.imagefs."

ACTIONS: Final = PREFIX + b"do."
"""How the names of attributes begin that have something done when they are read; see :mod:`imagefs.vfs.steward`."""

MAX_NAME_BYTES: Final = 255
"""The longest name of an attribute (XATTR_NAME_MAX, xattr(7))."""

_OWN_FIELDS: Final = frozenset({"id", "status", "checksum", "format", "cached", "error", "location"})


def of_image(
    image: ListedImage,
    details: ImageDetails | None,
    *,
    cached_bytes: int,
    error: str | None,
    location: str | None,
) -> dict[bytes, bytes]:
    """All attributes of an image, by full name.

    Our own come first; every other field of the details follows under its own name, encoded like a file name.
    """
    fields = dict(details.fields) if details else {}
    own = {"id": image.image_id, "status": image.status}
    if details is not None and details.checksum is not None:
        own["checksum"] = details.checksum
    if "disk_format" in fields:
        own["format"] = fields["disk_format"]
    own["cached"] = str(cached_bytes)
    if error is not None:
        own["error"] = error
    if location is not None:
        own["location"] = location
    others = {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
    attributes = {PREFIX + _bytes(encode(name)): _bytes(value) for name, value in (own | others).items()}
    return {name: value for name, value in attributes.items() if len(name) <= MAX_NAME_BYTES}


def of_root(pid: int) -> dict[bytes, bytes]:
    """The mount's own: the process that serves it, so that whoever unmounts it can wait for its end."""
    return {PREFIX + b"pid": str(pid).encode()}


def no_attribute(name: bytes) -> NoAttribute:
    """The error for an attribute that is not there."""
    return NoAttribute(f"There is no extended attribute {name!r}.")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
