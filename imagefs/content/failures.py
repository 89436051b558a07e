"""What went wrong, in the words of a reader's errors."""

from __future__ import annotations

from copy import copy

from imagefs.errors import ContentError, CredentialsRefused, TransferBroken, Unreachable


def again(error: Exception) -> Exception:
    """*error* for one more reader: a new object, so that each has a traceback of its own.

    It is a :class:`ContentError`, :class:`Unreachable` or :class:`CredentialsRefused`, or else becomes a
    :class:`TransferBroken` that has *error* as its cause.
    """
    if isinstance(error, (ContentError, Unreachable, CredentialsRefused)):
        return copy(error)
    wrapped = TransferBroken(str(error))
    wrapped.__cause__ = error
    return wrapped
