"""Making the cache trustworthy when it is opened: an index that can be read, files and index in agreement.

What the index claims but the disk does not have is dropped from the index; what is on the disk but not claimed is
removed. Damage that neither shows is caught by the block sums. Used by `CacheDirectory.open`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from imagefs.errors import CacheUnusable
from imagefs.store.block_table import BlockTable
from imagefs.store.blocks import BLOCK_BYTES
from imagefs.store.data_file import DataFile
from imagefs.store.database import Damaged, Database
from imagefs.store.files import (
    allocated_bytes,
    is_own_file,
    open_file,
    remove_file,
    remove_if_planted,
    subdirectory,
)
from imagefs.store.index import ContentRecord, Index
from imagefs.store.journal import take_over_rows
from imagefs.store.layout import content_name, content_path, is_content_name
from imagefs.store.salvage import report_lost_intents
from imagefs.store.schema import JOURNAL

_INDEX_NAME: Final = "index"
_JOURNAL_NAME: Final = "journal"
_COMPANIONS: Final = ("-wal", "-shm", "-journal")
_KEPT_DAMAGED: Final = 3

_FOLDER: Final = re.compile(r"[0-9a-f]{2}")

Opened = TypeVar("Opened", Index, Database)


def open_index(root: int, path: Path) -> tuple[Index, list[str]]:
    """The index in the directory *root*, whose path is *path*, and sentences about what was wrong with it.

    A damaged one is moved aside and a fresh one started, so that all content is fetched again.

    Raises:
        CacheFull, CacheUnusable: there is no space for it, or it is another version's.

    """
    problems: list[str] = []
    index, _ = _open_or_begin(root, path, _INDEX_NAME, Index, problems)
    return index, problems


def open_journal(root: int, path: Path, index: Index, problems: list[str]) -> Database:
    """The journal beside the index, which had it in earlier versions; raises as `open_index`.

    A damaged one is moved aside and a fresh one started. *problems* gets a sentence for it, and one for each
    intent that could still be read, which is not carried out any more.
    """
    journal, aside = _open_or_begin(root, path, _JOURNAL_NAME, lambda file: Database(file, JOURNAL), problems)
    if aside is not None:
        problems.append("look in the account for images that were to be renamed, moved or deleted")
        problems += report_lost_intents(path / aside, journal)
    take_over_rows(index.database, journal)
    return journal


def _open_or_begin(
    root: int, path: Path, name: str, opening: Callable[[Path], Opened], problems: list[str]
) -> tuple[Opened, str | None]:
    """The file *name* opened, and the name under which a damaged one was kept."""
    aside = None
    for attempt in range(2):
        for each in (name, *(name + suffix for suffix in _COMPANIONS)):
            if remove_if_planted(root, each):
                problems.append(f"{each} in the cache directory was not the cache's own file and was removed")
        os.close(open_file(root, name))
        try:
            return opening(path / name), aside
        except Damaged as damage:
            if attempt:
                raise CacheUnusable(f"a fresh {name} is damaged at once: {damage}") from damage
            aside = _move_aside(root, name)
            problems.append(
                f"the cache's {name} was damaged ({damage}); it was kept as {aside} and begun anew"
            )
    raise AssertionError("unreachable")


def _move_aside(root: int, name: str) -> str:
    """Rename a damaged file and its log, and return its new name; only the last few damaged ones are kept."""
    damaged = re.compile(rf"{name}\.damaged-([0-9]{{1,9}})")
    numbers = sorted(int(found[1]) for each in os.listdir(root) if (found := damaged.fullmatch(each)))
    aside = f"{name}.damaged-{numbers[-1] + 1 if numbers else 1}"
    os.rename(name, aside, src_dir_fd=root, dst_dir_fd=root)
    for suffix in _COMPANIONS:
        try:
            os.rename(name + suffix, aside + suffix, src_dir_fd=root, dst_dir_fd=root)
        except FileNotFoundError:
            continue
    for number in numbers[: 1 - _KEPT_DAMAGED]:
        for suffix in ("", *_COMPANIONS):
            remove_file(root, f"{name}.damaged-{number}{suffix}")
    return aside


def reconcile(contents: int, index: Index, problems: list[str]) -> dict[str, int]:
    """Make the files below the directory *contents* and *index* agree: the cached bytes by content name.

    *problems* gets a sentence for each thing that no crash can have left.
    """
    records = index.load_contents()
    claimed = index.cached_bytes()
    statuses = _survey(contents, problems)
    for name in [*records]:
        record = records[name]
        status = statuses.get(name)
        if name != content_name(record.key) or status is None or status.st_size != record.key.size_bytes:
            index.forget_content(name)
            del records[name]
        elif allocated_bytes(status) > _expected_bytes(claimed.get(name, 0)):
            _free_unclaimed(contents, index, record)
    for name in statuses.keys() - records.keys():
        _remove_content_file(contents, name)
    for name in claimed.keys() - records.keys():
        index.forget_content(name)
    return {name: held for name, held in claimed.items() if name in records}


def _survey(contents: int, problems: list[str]) -> dict[str, os.stat_result]:
    """The status of each file that can be a content's; anything else in its place is removed or reported."""
    statuses = {}
    for folder in os.listdir(contents):
        if not _FOLDER.fullmatch(folder):
            problems.append(
                f"content/{folder!r} in the cache directory is not the cache's and was left alone"
            )
            continue
        with subdirectory(contents, folder) as parent, os.scandir(parent) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    problems.append(f"content/{folder}/{entry.name!r} is not the cache's and was left alone")
                elif is_own_file(status) and _belongs_in(folder, entry.name):
                    statuses[entry.name] = status
                else:
                    remove_file(parent, entry.name)
    return statuses


def _belongs_in(folder: str, name: str) -> bool:
    """Whether a content's file in *folder* can have this name."""
    return is_content_name(name) and content_path(name)[0] == folder


def _expected_bytes(claimed_bytes: int) -> int:
    """The most space that a file with *claimed_bytes* should need, with the file system's own part of it."""
    return claimed_bytes + claimed_bytes // 256 + BLOCK_BYTES


def _free_unclaimed(contents: int, index: Index, record: ContentRecord) -> None:
    """Give back the space of the blocks that the index does not claim: written, but never made durable."""
    blocks = BlockTable(record.key.size_bytes, index.load_segments(record.name))
    folder, file_name = content_path(record.name)
    with subdirectory(contents, folder) as parent:
        file = DataFile(parent, file_name, record.key.size_bytes)
    try:
        for first, end in blocks.absent_runs():
            file.free(first * BLOCK_BYTES, min(end * BLOCK_BYTES, record.key.size_bytes))
    finally:
        file.close()


def _remove_content_file(contents: int, name: str) -> None:
    folder, file_name = content_path(name)
    with subdirectory(contents, folder) as parent:
        remove_file(parent, file_name)
