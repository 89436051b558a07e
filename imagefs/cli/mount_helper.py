"""What mount(8) runs for ``-t fuse.imagefs`` and for lines of fstab, as ``/sbin/mount.fuse.imagefs``.

It takes the arguments that mount(8) documents under "external helpers", and is otherwise ``imagefs mount -o``. What
root mounts this way is the machine's: its configuration, cache and log are where the machine's are.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Final

from imagefs.cli import main as imagefs

SYSTEM_FOLDERS: Final = {
    "XDG_CONFIG_HOME": "/etc",
    "XDG_CACHE_HOME": "/var/cache",
    "XDG_STATE_HOME": "/var/log",
}
"""Where root's mounts have /imagefs below, unless the environment says otherwise."""

USAGE_STATUS: Final = 1

STATUS: Final = {0: 0, 2: USAGE_STATUS, 130: 8}
"""Our exit status: that of mount(8). Any other is FAILURE_STATUS, a failed mount."""

FAILURE_STATUS: Final = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Mount as mount(8) asks for it; returns the exit status that it knows."""
    try:
        asked = _parser().parse_args(arguments)
    except SystemExit as end:  # argparse has said why
        return USAGE_STATUS if end.code else 0
    if os.geteuid() == 0:
        for variable, folder in SYSTEM_FOLDERS.items():
            os.environ.setdefault(variable, folder)
    if asked.fake:
        return 0
    status = imagefs(["mount", *(f"-o{options}" for options in asked.options), "--", asked.mountpoint])
    return STATUS.get(status, FAILURE_STATUS)


def _parser() -> argparse.ArgumentParser:
    """Not click's: options come after the arguments, and most of them are ignored."""
    parser = argparse.ArgumentParser(
        "mount.fuse.imagefs", description="Mount an account as mount(8) asks for it."
    )
    parser.add_argument("source", help="anything; the listing of mounts shows imagefs: and the API ID")
    parser.add_argument("mountpoint")
    parser.add_argument("-o", dest="options", action="append", default=[], metavar="OPT,...")
    parser.add_argument("-r", dest="options", action="append_const", const="ro", help="the same as -o ro")
    parser.add_argument("-w", dest="options", action="append_const", const="rw", help="the same as -o rw")
    parser.add_argument("-f", dest="fake", action="store_true", help="do nothing, successfully")
    parser.add_argument("-t", metavar="TYPE", help="ignored, like all other options")
    for letter in "snv":
        parser.add_argument(f"-{letter}", action="store_true", help=argparse.SUPPRESS)
    return parser
