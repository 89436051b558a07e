"""Where the log goes: standard error or the journal in the foreground, a file in the background."""

from __future__ import annotations

import linecache
import logging
import os
import sys
from collections.abc import Mapping
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Any, Final

import platformdirs

from imagefs.core.text import printable
from imagefs.errors import SetupError


def default_file() -> Path:
    """The log of mounts in the background."""
    return platformdirs.user_log_path("imagefs") / "imagefs.log"


class OneLine(logging.Formatter):
    """Escapes control characters: names and texts from the service must not reach a terminal as they are.

    A record is one line. The lines of a traceback below it are indented, so that no message of an error passes for a
    record.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a traceback below it where there is one."""
        return "\n".join(map(printable, super().format(record).split("\n")))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's own name
        """The record without its traceback."""
        return super().formatMessage(record).replace("\n", "\\n")

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's own name
        """The traceback. Python would keep the sources of all modules in it, from the first to the last line."""
        try:
            return super().formatException(ei).replace("\n", "\n  ")
        finally:
            linecache.clearcache()


_FOR_PEOPLE: Final = OneLine("%(asctime)s %(levelname)-7s %(message)s")


class ForJournal(OneLine):
    """Begins each line with its priority, as sd-daemon(3) has it; the journal knows the time by itself."""

    _PRIORITIES: Final = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines, each with the priority of the record."""
        priority = next((number for level, number in self._PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).split("\n"))


def to_stderr(level: str) -> None:
    """Log to standard error, in the journal's form where it leads there."""
    handler = logging.StreamHandler()
    _start(handler, level, ForJournal() if is_journal(sys.stderr.fileno(), os.environ) else _FOR_PEOPLE)


def is_journal(descriptor: int, environment: Mapping[str, str]) -> bool:
    """Whether *descriptor* is what systemd connected with the journal (JOURNAL_STREAM in systemd.exec(5))."""
    status = os.fstat(descriptor)
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def to_file(path: Path, level: str) -> None:
    """Log to *path*, made 0600 if it is new, and made anew once it was rotated away. Raises SetupError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise SetupError(f"The log file {path} cannot be written: {error.strerror}.") from error
    _start(handler, level, _FOR_PEOPLE)


class _LogFile(WatchedFileHandler):
    """A log that is readable by its owner alone, also where the one before was rotated away."""

    def _open(self) -> TextIOWrapper:
        os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        return super()._open()

    def emit(self, record: logging.LogRecord) -> None:
        """Write *record*; a log that cannot be written must not make anything else fail."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)


def _start(handler: logging.Handler, level: str, formatter: logging.Formatter) -> None:
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Warnings of these libraries quote answers, which may repeat a signature or the key.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)
    logging.getLogger("requests").setLevel(logging.CRITICAL + 1)
    logging.getLogger("imagefs").setLevel(level.upper())
