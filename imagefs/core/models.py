"""What the service says about images, as frozen values.

Made by the API client, used by every room above. Texts are kept as the service sent them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Final

from imagefs.errors import ImageFailed, ImagePending

DOCUMENTED_REGIONS: Final = ("toronto", "montreal", "roubaix")
"""The regions that the service's page names, in its order."""

DEFAULT_API_URL: Final = "https://dynamic.lunanode.com/api/"
"""Where the service's API is, as its overview page says."""

LARGEST_IMAGE_BYTES: Final = 4 << 40
"""A larger image is shown without its size, and not served: the bookkeeping, several bytes for each 128 KiB, would take
too much memory."""


def account_name(api_url: str, api_id: str) -> str:
    """A short name for one account at one service; the API ID cannot be read from it."""
    return hashlib.sha256(f"{api_url}\0{api_id}".encode()).hexdigest()[:16]


class Phase(Enum):
    """What a status text means for a reader."""

    ACTIVE = "active"
    PENDING = "pending"
    FAILED = "failed"


def phase_of(status: str) -> Phase:
    """The phase that *status* stands for: any text that is neither active nor a failure counts as pending."""
    if status == "active":
        return Phase.ACTIVE
    if status in ("killed", "error", "deleted"):
        return Phase.FAILED
    return Phase.PENDING


def is_leaving(status: str) -> bool:
    """Whether *status* says that the image is deleted, or is being deleted."""
    return "delet" in status.lower()


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One row of ``image/list``."""

    image_id: str
    name: str
    region: str
    status: str

    @property
    def phase(self) -> Phase:
        """What the status means for a reader."""
        return phase_of(self.status)


@dataclass(frozen=True, slots=True)
class ContentKey:
    """The identity of some content: images with equal keys have the same bytes.

    ``checksum`` is the MD5 in lower-case hex. Where the service gave none, it is None and ``image_id`` tells
    contents apart.
    """

    size_bytes: int
    checksum: str | None
    image_id: str | None = None


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """The answer to ``image/details``.

    ``size_bytes`` and ``checksum`` (MD5, lower-case hex) are None where the service gave none that makes sense;
    ``problem`` then says why in a sentence. ``time_created_ns`` is nanoseconds since the epoch, UTC.
    ``fields`` holds every field as text, in the answer's order, those above included.
    """

    image_id: str
    name: str
    region: str
    status: str
    size_bytes: int | None
    checksum: str | None
    time_created_ns: int | None
    fields: tuple[tuple[str, str], ...] = ()
    problem: str | None = None

    @property
    def phase(self) -> Phase:
        """What the status means for a reader."""
        return phase_of(self.status)

    @property
    def content_key(self) -> ContentKey | None:
        """The identity of the image's bytes, or None where the size is not known."""
        if self.size_bytes is None:
            return None
        if self.checksum is None:
            return ContentKey(self.size_bytes, None, self.image_id)
        return ContentKey(self.size_bytes, self.checksum)


def require_active(image: ListedImage | ImageDetails) -> None:
    """Raise ImageFailed or ImagePending for an image that is not active, which can be neither read nor copied."""
    if image.phase is Phase.FAILED:
        raise ImageFailed(f"Image {image.image_id} has failed ({image.status}).")
    if image.phase is Phase.PENDING:
        raise ImagePending(f"Image {image.image_id} is not ready yet ({image.status or 'no status'}).")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An account's API ID (16 characters) and API key (128 characters). Never shown by ``repr``."""

    api_id: str
    api_key: str

    def __repr__(self) -> str:
        return "Credentials(...)"
