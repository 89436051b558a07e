"""A file that was created in a region and is not an image yet, or was not when it was created. On trio's thread."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from imagefs.core.extents import ExtentSet
from imagefs.core.models import ContentKey
from imagefs.core.names import decode
from imagefs.errors import ImagefsError
from imagefs.vfs.fillers import Fillers

if TYPE_CHECKING:
    from imagefs.publish import Upload  # only mounts that publish load it


class SpoolFile(Protocol):
    """The part of :class:`imagefs.store.spool.Spool` that a draft needs."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def written_bytes(self) -> int: ...
    def write(self, offset: int, data: bytes) -> None: ...
    def truncate(self, size_bytes: int) -> None: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def md5(self) -> str: ...
    def close(self) -> None: ...


@dataclass(eq=False, slots=True)
class DraftFile:
    """One draft.

    ``filename`` is its name as it was written, ``mtime_ns`` what a tool has set. ``settling`` is there as soon as the
    service is asked, and set when it has answered: ``image_id`` and ``key`` are set then, or ``error``. ``upload`` is
    there once the service has agreed to fetch the content from this machine. ``creator`` is there if the file must not
    have existed (O_EXCL): he fills it, as cp and mv do, and it is complete when he closes it.
    """

    number: int
    region: str
    filename: str
    created_ns: int
    creator: Fillers | None = None
    mtime_ns: int | None = None
    handles: int = 0
    size_bytes: int = 0
    settling: trio.Event | None = None
    image_id: str | None = None
    key: ContentKey | None = None
    error: ImagefsError | None = None
    spool: SpoolFile | None = None
    upload: Upload | None = None
    copied: dict[ContentKey, ExtentSet] = field(default_factory=dict)
    busy: trio.Lock = field(default_factory=trio.Lock)
    fillers: Fillers = field(default_factory=Fillers)

    @property
    def name(self) -> str:
        """The name of the image that it is to be."""
        return decode(self.filename)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put into it yet."""
        return self.size_bytes == 0 and not self.copied

    @property
    def is_open(self) -> bool:
        """Whether it is neither settled nor refused."""
        return self.image_id is None and self.error is None

    async def settled(self) -> None:
        """Wait while the service is being asked for the image that this is to be."""
        if self.settling is not None:
            await self.settling.wait()

    def raise_if_refused(self) -> None:
        """Raise why it was refused, if it was."""
        if self.error is not None:
            raise copy(self.error)
