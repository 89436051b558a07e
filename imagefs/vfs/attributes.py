"""The attributes of each kind of node: pure rules over listing and details."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from functools import partial
from typing import Final

from imagefs.core.models import ImageDetails, ListedImage, Phase
from imagefs.vfs.draft_file import DraftFile
from imagefs.vfs.nodes import Control, Draft, Image, Region, Root

SECTOR_BYTES: Final = 512
"""The unit of ``st_blocks`` (stat(3type))."""

ATTRIBUTES_TTL_S: Final = 300.0
"""How long the kernel may keep the attributes of an active image, which do not change. Each lookup of its name brings
them anew."""

NAMES_TTL_S: Final = 1.0
"""How long the kernel may keep a name. It is never notified that one has changed: it takes such a notice only while
nobody has the directory locked, and if this process were killed while it waits for that, neither could end."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) shows, and how long the kernel may keep it.

    ``entry_ttl_s`` is for the name, ``ttl_s`` for the rest. ``settled`` is set where the size is that of an active
    image. ``edition`` is the kernel's own inode number for the file where that is not ``inode``, else 0.
    """

    inode: int
    mode: int
    size_bytes: int
    mtime_ns: int
    uid: int
    gid: int
    links: int = 1
    ttl_s: float = 0.0
    entry_ttl_s: float = 0.0
    settled: bool = False
    edition: int = 0

    @property
    def sectors(self) -> int:
        """``st_blocks``, always for the whole size: with fewer, ``cp`` takes the file for sparse and reads it all."""
        return -(-self.size_bytes // SECTOR_BYTES)


@dataclass(frozen=True, slots=True)
class Ownership:
    """How the tree was mounted: whose files these are, and which permission bits are taken away."""

    uid: int
    gid: int
    umask: int = 0
    read_only: bool = False
    mounted_ns: int = 0


class AttributeRules:
    """Makes :class:`Attributes`."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._owned = partial(Attributes, uid=ownership.uid, gid=ownership.gid)

    @property
    def read_only(self) -> bool:
        """Whether the account is mounted read-only."""
        return self._ownership.read_only

    def of_directory(self, node: Root | Region) -> Attributes:
        """The root's or a region's."""
        mode = 0o555 if self._ownership.read_only else 0o755
        return self._owned(
            inode=node.inode,
            mode=stat.S_IFDIR | mode & ~self._ownership.umask,
            size_bytes=0,
            mtime_ns=self._ownership.mounted_ns,
            links=2,
            ttl_s=NAMES_TTL_S,
            entry_ttl_s=NAMES_TTL_S,
        )

    def of_image(
        self,
        image: ListedImage,
        details: ImageDetails | None,
        local_mtime_ns: int | None,
        *,
        listed: bool = True,
    ) -> Attributes:
        """An image's. Without *details* they serve to list its name only, and the kernel has to ask again for more.

        ``listed=False`` is for an image that is gone from the listing but still open.
        """
        active = image.phase is Phase.ACTIVE
        mode = (0o444 if active else 0) & ~self._ownership.umask
        mtime_ns = local_mtime_ns
        if mtime_ns is None:
            created_ns = details.time_created_ns if details else None
            mtime_ns = self._ownership.mounted_ns if created_ns is None else created_ns
        known = details is not None and details.size_bytes is not None and details.phase is Phase.ACTIVE
        settled = known and active and listed
        return self._owned(
            inode=Image(image.image_id).inode,
            mode=stat.S_IFREG | mode,
            size_bytes=(details.size_bytes or 0) if details else 0,
            mtime_ns=mtime_ns,
            links=1 if listed else 0,
            ttl_s=ATTRIBUTES_TTL_S if settled else 0.0,
            entry_ttl_s=NAMES_TTL_S if settled else 0.0,
            settled=settled,
        )

    def of_control(self, node: Control, size_bytes: int) -> Attributes:
        """A control file's."""
        mode = 0o444 if self._ownership.read_only else 0o644
        return self._owned(
            inode=Control(node.region).inode,
            mode=stat.S_IFREG | mode & ~self._ownership.umask,
            size_bytes=size_bytes,
            mtime_ns=self._ownership.mounted_ns,
            edition=node.number,
        )

    def of_draft(self, node: Draft, draft: DraftFile | None) -> Attributes:
        """A draft's; None for one that has gone since it was listed."""
        return self._owned(
            inode=node.inode,
            mode=stat.S_IFREG | 0o644 & ~self._ownership.umask,
            size_bytes=draft.size_bytes if draft else 0,
            mtime_ns=(draft.mtime_ns or draft.created_ns) if draft else self._ownership.mounted_ns,
        )
