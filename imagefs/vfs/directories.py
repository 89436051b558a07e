"""Open directories: what each listed when it was opened. On trio's thread."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from imagefs.account import Snapshot
from imagefs.core.names import CONTROL_NAME, to_os
from imagefs.vfs.drafts import Drafts
from imagefs.vfs.nodes import Control, Draft, Image, Node, Region, Root


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One name in a directory.

    ``dot`` is set for ``.`` and ``..``, which the kernel does not count as looked up.
    """

    name: bytes
    node: Node
    dot: bool = False


class Directories:
    """The handles on directories."""

    def __init__(self, drafts: Drafts) -> None:
        self._drafts = drafts
        self._open: dict[int, list[DirectoryEntry]] = {}
        self._handles = itertools.count(1)

    def open(self, directory: Root | Region, snapshot: Snapshot) -> int:
        """A handle on the entries as they are now."""
        entries = [DirectoryEntry(b".", directory, dot=True), DirectoryEntry(b"..", Root(), dot=True)]
        if isinstance(directory, Root):
            listed = snapshot.region_names.listed.items()
            entries += [DirectoryEntry(to_os(name), Region(region)) for name, region in listed]
        else:
            names = snapshot.names(directory.name)
            entries.append(DirectoryEntry(to_os(CONTROL_NAME), Control(directory.name)))
            entries += [
                DirectoryEntry(to_os(name), Image(image_id)) for name, image_id in names.listed.items()
            ]
            entries += [
                DirectoryEntry(to_os(draft.filename), Draft(draft.number))
                for draft in self._drafts.in_region(directory.name)
                if names.resolve(draft.filename) is None  # as in Resolution.find
            ]
        handle = next(self._handles)
        self._open[handle] = entries
        return handle

    def entries(self, handle: int) -> Sequence[DirectoryEntry]:
        """What the handle lists; the position in it is a stable offset."""
        return self._open[handle]

    def close(self, handle: int) -> None:
        """The handle is done."""
        self._open.pop(handle, None)
