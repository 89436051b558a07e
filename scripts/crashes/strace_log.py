"""What strace(1) saw of a process, as events: everything that changed files below a directory.

Any call that could change something there and is not understood is an error: nothing is left out silently.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SYSTEM_CALLS: Final = (
    "open,openat,openat2,creat,mkdir,mkdirat,rmdir,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,"
    "unlinkat,truncate,ftruncate,fallocate,write,writev,pwrite64,pwritev,pwritev2,fsync,fdatasync,sync_file_range,"
    "syncfs,sync,copy_file_range,sendfile"
)

OPTIONS: Final = ("-f", "-qq", "-xx", "-y", "-s", "4000000", "--seccomp-bpf", "-e", f"trace={SYSTEM_CALLS}")


@dataclass(frozen=True, slots=True)
class Written:
    path: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resized:
    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Punched:
    path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Synced:
    """The file, or the directory's entries."""

    path: str


@dataclass(frozen=True, slots=True)
class Made:
    """A file or directory that may have been there already where it is a file."""

    path: str
    is_directory: bool


@dataclass(frozen=True, slots=True)
class Renamed:
    path: str
    new_path: str


@dataclass(frozen=True, slots=True)
class Removed:
    path: str


@dataclass(frozen=True, slots=True)
class Marked:
    """What the process wrote to standard error."""

    text: str


Event = Written | Resized | Punched | Synced | Made | Renamed | Removed | Marked


@dataclass(frozen=True, slots=True)
class Call:
    """An event, and the lines of the log at which it began and ended; others may lie between."""

    began: int
    ended: int
    event: Event


class NotUnderstood(Exception):
    """A call that may have changed something."""


_LINE: Final = re.compile(r"(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))", re.DOTALL)
_UNFINISHED: Final = " <unfinished ...>"
_HEX: Final = re.compile(r"(?:\\x[0-9a-f]{2})+")
_FD: Final = r"(-?\w+)(?:<([^>]*)>)?"
_TEXT: Final = r'"([^"]*)"'
_RESULT: Final = r"\) += (-?\d+).*"
_PATTERNS: Final = {
    "pwrite64": re.compile(rf"{_FD}, {_TEXT}, \d+, (\d+){_RESULT}", re.DOTALL),
    "write": re.compile(rf"2(?:<[^>]*>)?, {_TEXT}, \d+{_RESULT}", re.DOTALL),
    "ftruncate": re.compile(rf"{_FD}, (\d+){_RESULT}"),
    "fallocate": re.compile(rf"{_FD}, ([\w|]+), (\d+), (\d+){_RESULT}"),
    "fsync": re.compile(rf"{_FD}{_RESULT}"),
    "fdatasync": re.compile(rf"{_FD}{_RESULT}"),
    "openat": re.compile(rf"{_FD}, {_TEXT}, ([\w|]+)(?:, \d+)?{_RESULT}"),
    "mkdir": re.compile(rf"{_TEXT}, \d+{_RESULT}"),
    "mkdirat": re.compile(rf"{_FD}, {_TEXT}, \d+{_RESULT}"),
    "unlink": re.compile(rf"{_TEXT}{_RESULT}"),
    "unlinkat": re.compile(rf"{_FD}, {_TEXT}, 0{_RESULT}"),
    "rename": re.compile(rf"{_TEXT}, {_TEXT}{_RESULT}"),
    "renameat": re.compile(rf"{_FD}, {_TEXT}, {_FD}, {_TEXT}{_RESULT}"),
}


def calls_below(root: Path, log: Path) -> list[Call]:
    """The calls that changed *root* or something below it, in the order in which they ended. Raises NotUnderstood."""
    below = f"{root}/"
    calls = []
    for began, ended, name, arguments in _finished(log):
        event = _event(name, arguments, below)
        if event is not None:
            calls.append(Call(began, ended, event))
    return calls


def _finished(log: Path) -> Iterator[tuple[int, int, str, str]]:
    """(line of the beginning, line of the end, system call, arguments and result), as calls end."""
    unfinished: dict[str, tuple[int, str]] = {}
    with log.open(encoding="ascii") as lines:
        for number, line in enumerate(lines):
            found = _LINE.match(line.rstrip("\n"))
            if found is None:
                if "+++" in line or "---" in line:
                    continue  # an exit or a signal
                raise NotUnderstood(line[:200])
            thread, name, arguments, resumed, rest = found.groups()
            if name is None:
                began, head = unfinished.pop(thread)
                yield began, number, resumed, head + rest
            elif arguments.endswith(_UNFINISHED):
                unfinished[thread] = (number, arguments.removesuffix(_UNFINISHED))
            else:
                yield number, number, name, arguments


def _event(name: str, arguments: str, below: str) -> Event | None:
    pattern = _PATTERNS.get(name)
    found = None if pattern is None else pattern.fullmatch(arguments)
    if found is None:
        if below in _HEX.sub(lambda match: _plain(match[0]).decode("latin-1"), arguments):
            raise NotUnderstood(f"{name}({arguments[:200]}")
        return None
    *fields, result = found.groups()
    if int(result) < 0:
        return None
    event = _of_call(name, [field or "" for field in fields], int(result))
    if event is None or isinstance(event, Marked):
        return event
    return event if f"{event.path}/".startswith(below) and not event.path.endswith(" (deleted)") else None


def _of_call(name: str, fields: list[str], result: int) -> Event | None:  # one line a call
    match name, fields:
        case "pwrite64", [_, path, data, offset]:
            return Written(_path(path), int(offset), _plain(data)[:result])
        case "write", [data]:
            return Marked(_plain(data).decode(errors="replace"))
        case "ftruncate", [_, path, size]:
            return Resized(_path(path), int(size))
        case "fallocate", [_, path, flags, start, length]:
            if "PUNCH_HOLE" not in flags:
                raise NotUnderstood(f"fallocate with {flags}")
            return Punched(_path(path), int(start), int(start) + int(length))
        case (("fsync" | "fdatasync"), [_, path]):
            return Synced(_path(path))
        case "openat", [_, folder, path, flags]:
            if "O_TMPFILE" not in flags and "O_CREAT" in flags:
                return Made(_path(folder, path), is_directory=False)
        case "mkdir", [path]:
            return Made(_path("", path), is_directory=True)
        case "mkdirat", [_, folder, path]:
            return Made(_path(folder, path), is_directory=True)
        case "unlink", [path]:
            return Removed(_path("", path))
        case "unlinkat", [_, folder, path]:
            return Removed(_path(folder, path))
        case "rename", [path, new_path]:
            return Renamed(_path("", path), _path("", new_path))
        case "renameat", [_, folder, path, _, new_folder, new_path]:
            return Renamed(_path(folder, path), _path(new_folder, new_path))
    return None


def _path(folder: str, name: str = "") -> str:
    """The path that *name* in *folder* has, both as strace prints them."""
    return os.path.normpath(Path(_plain(folder).decode()) / _plain(name).decode())


def _plain(text: str) -> bytes:
    """What strace -xx has printed as hex."""
    return bytes.fromhex(text.replace("\\x", ""))
