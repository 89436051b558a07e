"""The programs that people copy and move files with, as one table for the tests that run them all on a mount.

In a command ``{source}`` and ``{target}`` are files, ``{folder}`` and ``{name}`` the source's parts, and ``{into}``
the target's directory.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Copier:
    """One way to copy or move a file.

    ``by_range``: copy_file_range(2) arrives, so that nothing is transferred; None: that depends on the version.
    ``moves``: the source goes. ``renames``: the target may have another name than the source. ``replaces``: it removes
    what has the target's name already. ``reads_disk``: it can have a source on another file system. ``hears_close``: it
    fails where close(2) does.
    """

    command: tuple[str, ...]
    by_range: bool | None = False
    moves: bool = False
    renames: bool = True
    replaces: bool = False
    reads_disk: bool = True
    hears_close: bool = True

    def words(self, source: Path, target: Path) -> list[str]:
        """The command line that copies *source* to *target*."""
        places = {
            "{source}": str(source),
            "{target}": str(target),
            "{folder}": str(source.parent),
            "{name}": source.name,
            "{into}": str(target.parent),
        }
        words = [places.get(word, word) for word in self.command]
        return [
            word.format(source=source, target=target) if word.startswith(("if=", "of=")) else word
            for word in words
        ]

    @property
    def program(self) -> str:
        """What has to be installed."""
        return self.command[0]


def missing_programs() -> list[str]:
    """The programs of the table that this machine has not."""
    return sorted({copier.program for copier in COPIERS.values() if shutil.which(copier.program) is None})


def _cp(*flags: str, by_range: bool = True, replaces: bool = False) -> Copier:
    return Copier(("cp", *flags, "{source}", "{target}"), by_range=by_range, replaces=replaces)


def _shell(script: str, *words: str, **traits: bool) -> Copier:
    return Copier(("sh", "-c", script, "sh", *words), **traits)


def _python(script: str, **traits: bool) -> Copier:
    return Copier((sys.executable, "-c", script, "{source}", "{target}"), **traits)


def _node(script: str, **traits: bool) -> Copier:
    return Copier(("node", "-e", script, "{source}", "{target}"), **traits)


def _perl(function: str, **traits: bool) -> Copier:
    script = f"{function}(@ARGV) or die qq($!\\n)"
    return Copier(("perl", "-MFile::Copy", "-e", script, "{source}", "{target}"), **traits)


def _rclone(command: str, *flags: str, **traits: bool) -> Copier:
    return Copier(("rclone", "--config", "", command, *flags, "{source}", "{target}"), **traits)


_LOOP: Final = (
    "import os, sys; a = os.open(sys.argv[1], os.O_RDONLY)\n"
    "b = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC); rest = os.fstat(a).st_size\n"
    "while rest: rest -= os.{call}\n"
    "os.close(b)"
)

COPIERS: Final = {
    "cp": _cp(),
    "cp-p": _cp("-p"),
    "cp-a": _cp("-a"),
    "cp-f": _cp("-f", replaces=True),
    "cp-remove-destination": _cp("--remove-destination", replaces=True),
    "cp-reflink-auto": _cp("--reflink=auto"),
    "cp-reflink-never": _cp("--reflink=never", by_range=False),
    "cp-sparse": _cp("--sparse=always", by_range=False),
    "cp-l": Copier(("cp", "-l", "{source}", "{target}"), by_range=True, reads_disk=False),
    "ln": Copier(("ln", "{source}", "{target}"), by_range=True, reads_disk=False),
    "install": Copier(("install", "-m", "644", "{source}", "{target}"), by_range=True, replaces=True),
    "cat": _shell('cat "$1" > "$2"', "{source}", "{target}", by_range=True),
    "tee": _shell('tee "$2" < "$1" > /dev/null', "{source}", "{target}"),
    "sponge": _shell('sponge "$2" < "$1"', "{source}", "{target}"),
    "dd": Copier(("dd", "if={source}", "of={target}", "bs=64K")),
    "dd-fsync": Copier(("dd", "if={source}", "of={target}", "bs=64K", "conv=fsync")),
    "rsync": Copier(("rsync", "{source}", "{target}")),
    "rsync-a": Copier(("rsync", "-a", "{source}", "{target}")),
    "rsync-aX": Copier(("rsync", "-aX", "{source}", "{target}")),
    "rsync-inplace": Copier(("rsync", "--inplace", "{source}", "{target}")),
    "busybox-cp": Copier(("busybox", "cp", "{source}", "{target}")),
    "tar": _shell(
        'tar -C "$1" -cf - "$2" | tar -C "$3" -xf -', "{folder}", "{name}", "{into}",
        renames=False, replaces=True,
    ),
    "tar-xattrs": _shell(
        'tar --xattrs -C "$1" -cf - "$2" | tar --xattrs -C "$3" -xf -', "{folder}", "{name}", "{into}",
        renames=False, replaces=True,
    ),
    "cpio": _shell(
        'cd "$1" && echo "$2" | cpio -p "$3"', "{folder}", "{name}", "{into}", renames=False, replaces=True
    ),
    "pax": _shell(
        'cd "$1" && pax -rw "$2" "$3"', "{folder}", "{name}", "{into}",
        renames=False, replaces=True, hears_close=False,
    ),
    "uutils-cp": Copier(("coreutils", "cp", "{source}", "{target}"), by_range=True, hears_close=False),
    "rclone-copyto": _rclone("copyto"),
    # Without --ignore-checksum it would read what it wrote, which is not ready yet, and take it away again.
    "rclone-streams": _rclone(
        "copyto", "--multi-thread-cutoff=64K", "--multi-thread-streams=4", "--ignore-checksum"
    ),
    "gio-copy": Copier(("gio", "copy", "{source}", "{target}"), by_range=None),
    "node-copyFile": _node("fs.copyFileSync(...process.argv.slice(1))", by_range=True),
    "perl-copy": _perl("copy"),
    "python-copyfile": _python("import shutil, sys; shutil.copyfile(*sys.argv[1:])"),
    "python-copy2": _python("import shutil, sys; shutil.copy2(*sys.argv[1:])"),
    "python-copy_file_range": _python(
        _LOOP.format(call="copy_file_range(a, b, rest)"), by_range=True, reads_disk=False
    ),
    "python-sendfile": _python(_LOOP.format(call="sendfile(b, a, None, rest)")),
    "mv": Copier(("mv", "{source}", "{target}"), by_range=True, moves=True),
    "uutils-mv": Copier(("coreutils", "mv", "{source}", "{target}"), by_range=True, moves=True, hears_close=False),
    "busybox-mv": Copier(("busybox", "mv", "{source}", "{target}"), by_range=True, moves=True),
    "rsync-remove-source": Copier(("rsync", "--remove-source-files", "{source}", "{target}"), moves=True),
    "rclone-moveto": _rclone("moveto", by_range=True, moves=True, replaces=True),
    "gio-move": Copier(("gio", "move", "{source}", "{target}"), by_range=True, moves=True),
    "perl-move": _perl("move", by_range=True, moves=True),
    "python-move": _python("import shutil, sys; shutil.move(*sys.argv[1:])", by_range=True, moves=True),
}  # fmt: skip
