"""What a name or an inode number stands for at this moment. On trio's thread; makes no call.

Used by the other parts of the tree. What a number stands for can change while the kernel holds it: a draft becomes an
image, and an image that is moved becomes its replica.
"""

from __future__ import annotations

from collections.abc import Set

from imagefs.account import Account, Snapshot
from imagefs.core.names import CONTROL_NAME, from_os
from imagefs.errors import NotDirectory, NotFound, Outdated
from imagefs.vfs.draft_file import DraftFile
from imagefs.vfs.drafts import Drafts
from imagefs.vfs.editions import Editions
from imagefs.vfs.nodes import Control, Draft, Image, InodeTable, Node, Region, Root


class Resolution:
    """The nodes that the kernel knows, and those that names lead to."""

    def __init__(self, account: Account, drafts: Drafts, editions: Editions) -> None:
        self._account = account
        self._drafts = drafts
        self._editions = editions
        self._inodes = InodeTable()
        self._moved: dict[str, str] = {}

    # By name

    def resolve(self, directory: Root | Region, name: bytes, snapshot: Snapshot) -> Node:
        """What *name* means in *directory*. Raises NotFound, NameTooLong, NameNotUtf8."""
        node = self.find(directory, name, snapshot)
        if node is None:
            raise NotFound(f"There is no {name!r} here.")
        return node

    def find(self, directory: Root | Region, name: bytes, snapshot: Snapshot) -> Node | None:
        """As :meth:`resolve`; None where there is nothing of that name."""
        filename = from_os(name)
        if isinstance(directory, Root):
            region = snapshot.region_names.resolve(filename)
            return None if region is None else Region(region)
        if filename == CONTROL_NAME:
            return Control(directory.name)
        image_id = snapshot.names(directory.name).resolve(filename)
        if image_id is not None:
            return Image(image_id)
        draft = self._drafts.find(directory.name, filename)
        return None if draft is None else Draft(draft.number)

    # By inode number

    def remember(self, node: Node) -> None:
        """The kernel was given one more reference to *node*."""
        self._inodes.remember(node)

    def forget(self, inode: int, lookups: int) -> None:
        """The kernel drops *lookups* references."""
        node = self._inodes.get(inode)
        if not self._inodes.forget(inode, lookups):
            return
        if isinstance(node, Draft):
            self._drafts.forget(node.number)
            return
        self._editions.forget(inode)
        if (
            isinstance(node, Image)
            and node.image_id in self._moved
            and not self._editions.knows(node.image_id)
        ):
            del self._moved[node.image_id]

    def vanished(self, image_ids: Set[str]) -> None:
        """These images are gone: nothing is kept of those that are neither open nor moved."""
        for inode in self._editions.vanished(image_ids - self._moved.keys()):
            self._inodes.let_go(inode)

    def unneeded(self) -> list[int]:
        """The inodes that the kernel knows though no name leads to them any more, and that nobody has open."""
        snapshot = self._account.snapshot
        listed = snapshot.by_id if snapshot else {}
        drafts = [number for number in self._inodes.drafts if self._is_over(number)]
        return [*self._inodes.gone, *drafts, *self._editions.unneeded(listed)]

    def _is_over(self, number: int) -> bool:
        draft = self._drafts.get(number)
        return draft is None or not (draft.is_open or draft.handles)

    def _is_listed(self, image_id: str) -> bool:
        return self._account.shown(image_id) is not None

    def looked_up(self, inode: int) -> Node | None:
        """What *inode* stood for when the kernel was given it; None for an image that is gone."""
        return self._inodes.get(inode)

    def node(self, inode: int) -> Node:
        """What *inode* stands for by now: a settled draft is its image, and a moved image its replica.

        Raises Outdated for an image that is gone, NotFound for what the kernel cannot know.
        """
        node = self._inodes.get(inode)
        if node is None and self._inodes.is_referenced(inode):
            raise Outdated("The image is gone from the account.")
        if node is None:
            raise NotFound(f"Inode {inode} is not known.")
        if isinstance(node, Image) and node.image_id in self._moved and not self._is_listed(node.image_id):
            return Image(self._moved[node.image_id])
        return self.settled(node)

    def settled(self, node: Node) -> Node:
        """*node*, or the image that this draft has become."""
        if isinstance(node, Draft):
            draft = self._drafts.get(node.number)
            if draft is not None and draft.image_id is not None:
                return Image(draft.image_id)
        return node

    def draft(self, node: Draft) -> DraftFile:
        """The draft itself. Raises NotFound for one that is refused, or an image by now."""
        draft = self._drafts.get(node.number)
        if draft is None or not draft.is_open:
            raise NotFound("This file was never filled with an image, and is gone.")
        return draft

    def moved(self, image_id: str, replica_id: str) -> None:
        """An image is being moved: its inodes stand for its replica once it is gone."""
        self._moved[image_id] = replica_id

    def renamed(self, image_id: str) -> None:
        """The image was renamed by another of its names, such as ``NAME~ID``, and the kernel may still know its own.

        That may be another image's by now, so that the kernel has to look it up again.
        """
        moved_from = [source_id for source_id, replica_id in self._moved.items() if replica_id == image_id]
        for known_id in (image_id, *moved_from):
            self._editions.renamed(known_id)

    def directory(self, inode: int) -> Root | Region:
        """The directory that *inode* stands for. Raises NotDirectory, NotFound."""
        node = self.node(inode)
        if not isinstance(node, (Root, Region)):
            raise NotDirectory("This is a file.")
        return node
