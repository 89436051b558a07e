"""Inode numbers that stay the same over remounts.

Used by the tree, on any thread. Each kind of node has a range of its own, so that kinds never collide::

    1                       the root
    2 ... 2**32 - 1         nodes that live only as long as a mount: drafts, later editions of images
    2**32 ... 2**49         images with a decimal id, the only kind that the service has sent so far
    2**50 ... 2**60 - 1     control files as the kernel knows them: a new number for each lookup
    2**60 ... 2**61 - 1     regions
    2**61 ... 2**62 - 1     control files
    2**62 ... 2**63 - 1     images with any other id

All are below 2**63, since programs exist that take ``st_ino`` as signed.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

ROOT_INODE: Final = 1
"""The root's number (FUSE_ROOT_ID)."""

_DECIMAL_BASE: Final = 2**32
_DECIMAL_LIMIT: Final = 2**48
_REGION_BASE: Final = 2**60
_CONTROL_BASE: Final = 2**61
_OTHER_BASE: Final = 2**62


def image_inode(image_id: str) -> int:
    """The number of an image, derived from its id alone."""
    if image_id.isascii() and image_id.isdigit() and len(image_id) <= len(str(_DECIMAL_LIMIT)):
        number = int(image_id)
        if number < _DECIMAL_LIMIT and str(number) == image_id:
            return _DECIMAL_BASE + number
    return _in_range(_OTHER_BASE, image_id)


def region_inode(region: str) -> int:
    """The number of a region's directory."""
    return _in_range(_REGION_BASE, region)


def control_inode(region: str) -> int:
    """The number of a region's control file."""
    return _in_range(_CONTROL_BASE, region)


def _in_range(base: int, text: str) -> int:
    """A number in ``[base, 2 * base)`` that depends on *text* alone; *base* is a power of two."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return base | int.from_bytes(digest, "big") % base
