"""Which inode stands for which content of an image. On trio's thread.

The kernel keeps one size and one set of pages for an inode, whichever handle is read, and cuts every read off at that
size. So an inode stands for one content for as long as the kernel knows it: it has one size, and everybody who opens it
gets the same bytes. Once an image turns out to have other content, or has given bytes that may be wrong, its names lead
to another inode, its next *edition*. Opening an older one fails as outdated (ESTALE), upon which the kernel looks the
name up again (``do_filp_open`` in its fs/namei.c).

The kernel could be told to drop its pages instead. But it drops them within the open(2) of one program, which then
waits for pages that others still read, and not even SIGKILL ends that wait (``invalidate_inode_pages2``); meanwhile a
third program still finds the pages that are to be dropped.

The kernel goes on knowing an image's inode when the image is gone, until it needs the memory or is asked to forget it
(:mod:`imagefs.fuse.pruning`). Of such an inode only the number is kept here.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Final
from weakref import ref

from imagefs.content.content import Content
from imagefs.content.reader import Reader
from imagefs.core.inodes import image_inode
from imagefs.core.models import ContentKey
from imagefs.errors import Outdated
from imagefs.vfs.attributes import Attributes
from imagefs.vfs.nodes import Image

FIRST_NUMBER: Final = 2**31
"""Inode numbers from here up to 2**32 live only as long as a mount (:mod:`imagefs.core.inodes`); drafts have those
below."""


@dataclass(eq=False, slots=True)
class Edition:
    """One edition of an image.

    ``told`` are the first attributes with a size that the kernel was given. ``vague``: it was given the inode before
    the size was known, and may still take it for empty while it handles another answer; such an inode is never opened.
    ``handles`` counts who has it open. The kernel's pages hold only what the content in ``given`` has delivered in that
    generation; where ``proved`` is set, they are right for any content of that key.
    """

    node: Image
    told: Attributes | None = None
    vague: bool = False
    handles: int = 0
    given: tuple[ref[Content], int] | None = None
    proved: ContentKey | None = None


class Editions:
    """The editions of all images that the kernel knows."""

    def __init__(self) -> None:
        self._numbers = itertools.count(FIRST_NUMBER)
        self._latest: dict[str, Edition] = {}
        self._by_inode: dict[int, Edition] = {}
        self._gone: set[int] = set()
        self._read_by: dict[Reader, Edition] = {}

    # What the kernel is told

    def named(self, image_id: str, attributes: Attributes) -> tuple[Image, Attributes]:
        """What a name of the image leads to now, and the attributes that the kernel may be given for it."""
        edition = self._latest.get(image_id)
        if edition is None or (attributes.settled and not _fits(edition, attributes)):
            edition = self._next(image_id)
        return edition.node, self.told(edition.node.inode, attributes)

    def told(self, inode: int, attributes: Attributes) -> Attributes:
        """*attributes*, but with the size that *inode* has for the kernel, if it was told one."""
        edition = self._by_inode.get(inode)
        if edition is None:
            return attributes
        attributes = replace(attributes, edition=edition.node.number)
        if edition.told is None:
            edition.vague = edition.vague or not attributes.settled
            edition.told = None if edition.vague else attributes
        if edition.told is None or (attributes.settled and _fits(edition, attributes)):
            return attributes
        return replace(edition.told, mode=attributes.mode, links=attributes.links, ttl_s=0.0, entry_ttl_s=0.0)

    def has_size(self, inode: int) -> bool:
        """Whether the kernel was told a size of *inode* that stays."""
        edition = self._by_inode.get(inode)
        return edition is not None and edition.told is not None

    def knows(self, image_id: str) -> bool:
        """Whether the kernel knows any edition of the image."""
        return any(edition.node.image_id == image_id for edition in self._by_inode.values())

    def unneeded(self, listed: Container[str]) -> list[int]:
        """The inodes that nobody has open and no name leads to, of images that are not *listed* or have a newer one."""
        return [
            inode
            for inode, edition in self._by_inode.items()
            if not edition.handles
            and (
                edition.node.image_id not in listed or self._latest.get(edition.node.image_id) is not edition
            )
        ]

    def forget(self, inode: int) -> None:
        """The kernel knows *inode* no more."""
        self._gone.discard(inode)
        edition = self._by_inode.pop(inode, None)
        if edition is not None and self._latest.get(edition.node.image_id) is edition:
            del self._latest[edition.node.image_id]

    def vanished(self, image_ids: Iterable[str]) -> list[int]:
        """These images are gone. Returns the inodes of those that nobody has open: they stand for nothing from here on.

        If such an image is there again, its names lead to another inode.
        """
        idle = []
        for image_id in image_ids:
            edition = self._latest.get(image_id)
            if edition is not None and not edition.handles:
                inode = edition.node.inode
                del self._latest[image_id], self._by_inode[inode]
                self._gone.add(inode)
                idle.append(inode)
        return idle

    def renamed(self, image_id: str) -> None:
        """The inode that the kernel knows is not to be opened any more: see :meth:`Resolution.renamed`."""
        self._latest.pop(image_id, None)

    def _next(self, image_id: str) -> Edition:
        inode = image_inode(image_id)
        is_taken = inode in self._by_inode or inode in self._gone
        node = Image(image_id, next(self._numbers) if is_taken else 0)
        edition = Edition(node)
        self._latest[image_id] = self._by_inode[node.inode] = edition
        return edition

    # Who has it open

    def opened(self, inode: int, reader: Reader) -> None:
        """One handle more on *inode*. Raises Outdated where *reader* would not get what the inode stands for."""
        edition = self._by_inode.get(inode)
        if edition is None or self._latest.get(edition.node.image_id) is not edition or edition.told is None:
            raise Outdated("The name leads to another file by now.")
        content = reader.content
        given = (ref(content), reader.generation)
        is_same = edition.given in (None, given) or (content.keepable and edition.proved == content.key)
        if edition.told.size_bytes != content.key.size_bytes or not is_same:
            del self._latest[edition.node.image_id]
            raise Outdated(f"Image {edition.node.image_id} has other content than before.")
        edition.handles += 1
        edition.given = given
        self._read_by[reader] = edition

    def closed(self, reader: Reader) -> None:
        """One handle less. The kernel may have forgotten the inode by now: that can overtake the notice of a close."""
        edition = self._read_by.pop(reader)
        edition.handles -= 1
        edition.proved = reader.content.key if reader.content.keepable else None


def _fits(edition: Edition, attributes: Attributes) -> bool:
    if edition.told is None:
        return not edition.vague
    return edition.told.size_bytes == attributes.size_bytes
