"""Open directories: what each listed when it was last read from its start. On trio's thread."""

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


@dataclass(eq=False, slots=True)
class _OpenDirectory:
    """``entries`` are None as long as nothing was read."""

    directory: Root | Region
    entries: list[DirectoryEntry] | None = None


class Directories:
    """The handles on directories."""

    def __init__(self, drafts: Drafts) -> None:
        self._drafts = drafts
        self._open: dict[int, _OpenDirectory] = {}
        self._handles = itertools.count(1)

    def open(self, directory: Root | Region) -> int:
        """A handle on *directory*."""
        handle = next(self._handles)
        self._open[handle] = _OpenDirectory(directory)
        return handle

    def entries(self, handle: int, snapshot: Snapshot, *, anew: bool) -> Sequence[DirectoryEntry]:
        """What the handle lists; the position in it is a stable offset until it is listed *anew*."""
        opened = self._open[handle]
        if opened.entries is None or anew:
            opened.entries = self._list(opened.directory, snapshot)
        return opened.entries

    def close(self, handle: int) -> None:
        """The handle is done."""
        self._open.pop(handle, None)

    def _list(self, directory: Root | Region, snapshot: Snapshot) -> list[DirectoryEntry]:
        """The entries as they are now."""
        entries = [DirectoryEntry(b".", directory, dot=True), DirectoryEntry(b"..", Root(), dot=True)]
        if isinstance(directory, Root):
            listed = snapshot.region_names.listed.items()
            return entries + [DirectoryEntry(to_os(name), Region(region)) for name, region in listed]
        names = snapshot.names(directory.name)
        entries.append(DirectoryEntry(to_os(CONTROL_NAME), Control(directory.name)))
        entries += [DirectoryEntry(to_os(name), Image(image_id)) for name, image_id in names.listed.items()]
        entries += [
            DirectoryEntry(to_os(draft.filename), Draft(draft.number))
            for draft in self._drafts.in_region(directory.name)
            if names.resolve(draft.filename) is None  # as in Resolution.find
        ]
        return entries
