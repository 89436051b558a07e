"""A disk that may lose, tear and reorder what was not synced, and what is on it after the power is gone.

The rules are those that POSIX leaves a program with, more hostile than any one file system:

- What was written to a file before an fsync or fdatasync of it began, and that sync has ended, is there. Of all else,
  each write may be there, or not, or sector by sector; each truncation and hole may be there or not.
- A name is there for good after an fsync of its directory; the sync of the file says nothing about it. Until then any
  of a directory's changes may be missing, but for later ones of the same name.
- Sectors of which nothing was ever synced may hold anything.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final

from crashes.strace_log import Call, Event, Made, Punched, Removed, Renamed, Resized, Synced, Written

SECTOR_BYTES: Final = 512
PAGE_BYTES: Final = 4096
_CHUNK: Final = bytes(128 * 1024)


@dataclass(eq=False, slots=True)
class _Inode:
    """A file or directory. ``changes`` are in the order in which they ended; each is of its own content or names."""

    is_directory: bool
    changes: list[tuple[Call, _Inode | None]] = field(default_factory=list)
    syncs: list[Call] = field(default_factory=list)

    def split(self, moment: int) -> Iterator[tuple[Event, _Inode | None, bool]]:
        """What had begun by line *moment*: (change, the inode that it names, whether it is durable)."""
        barrier = max((sync.began for sync in self.syncs if sync.ended < moment), default=-1)
        for call, named in self.changes:
            if call.began < moment:
                yield call.event, named, call.ended < barrier


class Recording:
    """What a process did to the files below *root*, in the order of *calls*."""

    def __init__(self, root: Path, calls: Sequence[Call]) -> None:
        self.calls = calls
        self._root = _Inode(is_directory=True)
        self._live = {str(root): self._root}
        for call in calls:
            self._take(call)

    @property
    def last_line(self) -> int:
        """The line of the log at which all is over."""
        return self.calls[-1].ended + 1

    def _take(self, call: Call) -> None:
        event = call.event
        match event:
            case Written(path) | Resized(path) | Punched(path):
                self._live[path].changes.append((call, None))
            case Synced(path):
                self._live[path].syncs.append(call)
            case Made(path, is_directory):
                if path not in self._live:
                    self._live[path] = _Inode(is_directory)
                    self._folder(path).changes.append((call, self._live[path]))
            case Removed(path):
                self._folder(path).changes.append((call, self._live.pop(path)))
            case Renamed(path, new_path):
                inode = self._live[new_path] = self._live.pop(path)
                self._folder(path).changes.append((call, inode))
            case _:
                pass

    def _folder(self, path: str) -> _Inode:
        return self._live[str(PurePath(path).parent)]

    def lose_power(self, moment: int, chance: random.Random, target: Path) -> None:
        """Make *target* what the disk holds if the power is gone at line *moment* of the log."""
        _Loss(moment, chance).leave(self._root, target)


class _Loss:
    """One loss. How much of what was not synced is there differs from loss to loss."""

    def __init__(self, moment: int, chance: random.Random) -> None:
        self._moment = moment
        self._chance = chance
        self._kept = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        self._torn = chance.choice((0.0, 0.3, 1.0))
        self._has_garbage = chance.random() < 0.3

    def leave(self, inode: _Inode, target: Path) -> None:
        if not inode.is_directory:
            _write_sparse(target, self._content(inode))
            return
        target.mkdir(mode=0o700)
        for name, child in self._names(inode).items():
            self.leave(child, target / name)

    def _names(self, inode: _Inode) -> dict[str, _Inode]:
        names: dict[str, _Inode] = {}
        lost: set[str] = set()
        for event, named, is_durable in inode.split(self._moment):
            assert isinstance(event, Made | Removed | Renamed)
            assert named is not None
            touched = {PurePath(event.path).name}
            if isinstance(event, Renamed):
                touched.add(PurePath(event.new_path).name)
            if not is_durable and (lost & touched or not self._keeps()):
                lost |= touched
                continue
            if not isinstance(event, Made):
                names.pop(PurePath(event.path).name, None)
            if not isinstance(event, Removed):
                names[PurePath(event.path if isinstance(event, Made) else event.new_path).name] = named
        return names

    def _content(self, inode: _Inode) -> bytearray:
        content = bytearray()
        synced: set[int] = set()
        for event, _, is_durable in inode.split(self._moment):
            match event:
                case Written(_, offset, data) if is_durable:
                    _put(content, offset, data)
                    synced.update(range(offset // SECTOR_BYTES, -(-(offset + len(data)) // SECTOR_BYTES)))
                case Written(_, offset, data):
                    self._put_some(content, offset, data, synced)
                case Resized(_, size_bytes) if is_durable or self._keeps():
                    del content[size_bytes:]
                    content.extend(bytes(size_bytes - len(content)))
                case Punched(_, start, end):
                    end = min(end, len(content))
                    for page in range(start, end, PAGE_BYTES):
                        if is_durable or self._keeps():
                            content[page : min(page + PAGE_BYTES, end)] = bytes(min(PAGE_BYTES, end - page))
        return content

    def _put_some(self, content: bytearray, offset: int, data: bytes, synced: set[int]) -> None:
        """What is left of a write that was not synced."""
        if self._chance.random() >= self._torn:
            if self._keeps():
                _put(content, offset, data)
            return
        if self._chance.random() < 0.5:  # the file grew, or not
            content.extend(bytes(max(0, offset + len(data) - len(content))))
        start = offset
        while start < offset + len(data):
            sector = start // SECTOR_BYTES
            end = min(offset + len(data), (sector + 1) * SECTOR_BYTES)
            if self._keeps():
                _put(content, start, data[start - offset : end - offset])
            elif self._has_garbage and sector not in synced and end <= len(content):
                content[start:end] = self._chance.randbytes(end - start)
            start = end

    def _keeps(self) -> bool:
        return self._chance.random() < self._kept


def _put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _write_sparse(target: Path, content: bytearray) -> None:
    with target.open("xb") as file:
        target.chmod(0o600)
        for start in range(0, len(content), len(_CHUNK)):
            chunk = content[start : start + len(_CHUNK)]
            if chunk != _CHUNK[: len(chunk)]:
                file.seek(start)
                file.write(chunk)
        file.truncate(len(content))
