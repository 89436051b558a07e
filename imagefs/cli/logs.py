"""Where the log goes: standard error in the foreground, a file in the background."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Final

import platformdirs

from imagefs.errors import SetupError

LEVELS: Final = ("debug", "info", "warning", "error")

_CONTROLS: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def default_file() -> Path:
    """The log of mounts in the background."""
    return platformdirs.user_log_path("imagefs") / "imagefs.log"


class OneLine(logging.Formatter):
    """Escapes control characters: names and texts from the service must not reach a terminal as they are."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one."""
        text = super().format(record)
        if record.exc_info is None:
            text = text.replace("\n", "\\n")
        return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def to_stderr(level: str) -> None:
    """Log to standard error."""
    _start(logging.StreamHandler(), level)


def to_file(path: Path, level: str) -> None:
    """Log to *path*, made 0600 if it is new. Raises SetupError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise SetupError(f"The log file {path} cannot be written: {error.strerror}.") from error
    _start(handler, level)


def _start(handler: logging.Handler, level: str) -> None:
    handler.setFormatter(OneLine("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("imagefs").setLevel(level.upper())
