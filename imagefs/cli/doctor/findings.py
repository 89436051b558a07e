"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grade = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: ``what`` was looked at, what was found, and the remedy where there is one to take.

    A failure keeps mounts from working, a warning makes them slower or poorer.
    """

    what: str
    grade: Grade
    message: str
    remedy: str = ""


def ok(what: str, message: str) -> Finding:
    """All is well."""
    return Finding(what, "ok", message)


def warning(what: str, message: str, remedy: str) -> Finding:
    """A mount works, but not as well as it could."""
    return Finding(what, "warning", message, remedy)


def failure(what: str, message: str, remedy: str) -> Finding:
    """No mount will work."""
    return Finding(what, "failure", message, remedy)
