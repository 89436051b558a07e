"""One image of the emulated account, and how the service's page shows it.

Frozen values: a change makes a new one. Used by the account's state and its rendering, on any thread.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from imagefs.emulator.content import Content


@dataclass(frozen=True, slots=True)
class Settling:
    """What an image that is not active yet is waiting for.

    ``saving_at_s`` and ``settles_at_s`` are seconds since the epoch: the status goes from queued to saving,
    then to ``becomes``. A fetch has no ``settles_at_s`` until its download ended. ``source_id`` is the
    image that a replica is made from.
    """

    saving_at_s: float
    settles_at_s: float | None
    becomes: str = "active"
    source_id: str | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the account, or a public template.

    ``overrides`` replace fields of its details as they are; None leaves a field out. ``settling`` is None
    once the status stays as it is.
    """

    image_id: str
    name: str
    region: str
    status: str
    time_created: str
    content: Content | None = None
    disk_format: str = "iso"
    public: bool = False
    virtio: bool = False
    settling: Settling | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    def listed(self) -> dict[str, str]:
        """The image's row in ``image/list``."""
        return {"image_id": self.image_id, "name": self.name, "region": self.region, "status": self.status}

    def details(self) -> dict[str, Any]:
        """The image's answer to ``image/details``; no size and checksum until it is active."""
        known = self.content if self.status == "active" else None
        fields: dict[str, Any] = {
            "cache_mode": "writeback",
            "checksum": known.checksum if known else "",
            "disk_format": self.disk_format,
            "hw_disk_bus": "virtio" if self.virtio else "ide",
            "hw_video_model": "cirrus",
            "hw_vif_model": "virtio" if self.virtio else "e1000",
            "is_read_only": "no",
            "libvirt_cpu_mode": "host-model",
            "metadata": [],
            "name": self.name,
            "region": self.region,
            "size": str(known.size_bytes) if known else "0",
            "status": self.status,
            "time_created": self.time_created,
        }
        fields.update(self.overrides)
        return {name: value for name, value in fields.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """The image as plain values, for the snapshot."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Self:
        """The image that ``to_json`` made *plain* of."""
        content = Content(**plain["content"]) if plain["content"] else None
        settling = Settling(**plain["settling"]) if plain["settling"] else None
        return cls(**{**plain, "content": content, "settling": settling})


def advanced(image: Image, now_s: float) -> Image:
    """*image* as it is at *now_s*, in seconds since the epoch: the same object where nothing changed."""
    settling = image.settling
    if settling is None:
        return image
    if settling.settles_at_s is not None and now_s >= settling.settles_at_s:
        return replace(image, status=settling.becomes, settling=None)
    if image.status == "queued" and now_s >= settling.saving_at_s:
        return replace(image, status="saving")
    return image


def page_time(epoch_s: float) -> str:
    """A time in the form of the page's ``time_created``: UTC, with microseconds, without a zone."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def modified_s(image: Image) -> int:
    """The whole second, since the epoch, at which *image* was created; 0 where its text makes no sense."""
    try:
        return int(datetime.fromisoformat(image.time_created).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return 0
