"""What an inode number stands for, and how often the kernel has looked it up."""

from __future__ import annotations

from dataclasses import dataclass

from imagefs.core.inodes import ROOT_INODE, control_inode, image_inode, region_inode


@dataclass(frozen=True, slots=True)
class Root:
    """The mount's own directory."""

    @property
    def inode(self) -> int:
        """The inode number."""
        return ROOT_INODE


@dataclass(frozen=True, slots=True)
class Region:
    """One region's directory."""

    name: str

    @property
    def inode(self) -> int:
        """The inode number."""
        return region_inode(self.name)


@dataclass(frozen=True, slots=True)
class Image:
    """One image's file. ``number`` is 0 unless there was other content before: see :mod:`imagefs.vfs.editions`."""

    image_id: str
    number: int = 0

    @property
    def inode(self) -> int:
        """The inode number; one that is not derived from the id is good for one mount."""
        return self.number or image_inode(self.image_id)


@dataclass(frozen=True, slots=True)
class Control:
    """A region's control file. ``number`` is a different one at each lookup: see :meth:`Tree.lookup`."""

    region: str
    number: int = 0

    @property
    def inode(self) -> int:
        """The kernel's number for it; one that is not derived from the region is good for one mount."""
        return self.number or control_inode(self.region)


@dataclass(frozen=True, slots=True)
class Draft:
    """A file that was created and is not an image yet, or was not when it was created."""

    number: int

    @property
    def inode(self) -> int:
        """The inode number, good for one mount."""
        return self.number


Node = Root | Region | Image | Control | Draft


class InodeTable:
    """The nodes that the kernel holds references to, with its lookup counts (fuse_lowlevel.h, forget).

    It holds them for as long as it has memory to spare, or is asked to forget them (:mod:`imagefs.fuse.pruning`). Of
    what is gone the count alone stays.
    """

    def __init__(self) -> None:
        self._nodes: dict[int, Node] = {ROOT_INODE: Root()}
        self._lookups: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._lookups)

    def remember(self, node: Node) -> None:
        """Count one lookup of *node*."""
        inode = node.inode
        self._nodes[inode] = node
        self._lookups[inode] = self._lookups.get(inode, 0) + 1

    def forget(self, inode: int, lookups: int) -> bool:
        """Drop *lookups* references; the node goes with the last one. Returns whether it went."""
        left = self._lookups.get(inode, 0) - lookups
        if left > 0:
            self._lookups[inode] = left
            return False
        self._lookups.pop(inode, None)
        if inode != ROOT_INODE:
            self._nodes.pop(inode, None)
        return True

    def let_go(self, inode: int) -> None:
        """*inode* stands for nothing any more, though the kernel may still use it."""
        self._nodes.pop(inode, None)

    @property
    def gone(self) -> set[int]:
        """The inodes that the kernel may still use though they stand for nothing any more."""
        return self._lookups.keys() - self._nodes.keys()

    @property
    def drafts(self) -> list[int]:
        """The inodes that were given as drafts."""
        return [inode for inode, node in self._nodes.items() if isinstance(node, Draft)]

    def is_referenced(self, inode: int) -> bool:
        """Whether the kernel may still use *inode*, whatever has become of it."""
        return inode in self._lookups

    def get(self, inode: int) -> Node | None:
        """What *inode* stands for, if the kernel may still use it and it is not gone."""
        return self._nodes.get(inode)
