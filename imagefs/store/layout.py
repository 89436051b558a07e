"""The names of content files, derived from validated keys alone. Pure rules, any thread."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from imagefs.core.models import ContentKey

_MD5: Final = re.compile(r"[0-9a-f]{32}")
_NAME: Final = re.compile(r"(?:md5-[0-9a-f]{32}|id-[0-9a-f]{64})-(?:0|[1-9][0-9]{0,18})")


def content_name(key: ContentKey) -> str:
    """The name of the content of *key*: ``md5-CHECKSUM-SIZE``, or ``id-SHA256-SIZE`` without a checksum.

    Raises:
        ValueError: the size is negative, the checksum is not 32 lower-case hex digits, or there is neither a
            checksum nor an image id.

    """
    if key.size_bytes < 0:
        raise ValueError("a content's size cannot be negative")
    if key.checksum is not None:
        if not _MD5.fullmatch(key.checksum):
            raise ValueError("a content's checksum is 32 lower-case hex digits")
        return f"md5-{key.checksum}-{key.size_bytes}"
    if key.image_id is None:
        raise ValueError("a content has a checksum or an image id")
    digest = hashlib.sha256(key.image_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"id-{digest}-{key.size_bytes}"


def content_path(name: str) -> tuple[str, str]:
    """The folder below ``content`` and the file name of content *name*."""
    return name.split("-")[1][:2], name


def is_content_name(name: str) -> bool:
    """Whether *name* can have come from `content_name`."""
    return _NAME.fullmatch(name) is not None
