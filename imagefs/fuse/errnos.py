"""The one table from errors to errno values."""

from __future__ import annotations

import errno
import logging
from dataclasses import dataclass
from typing import Final

import trio

from imagefs import errors


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed operation answers, and how loudly the log says so."""

    errno: int
    level: int = logging.DEBUG


_VERDICTS: Final[dict[type[Exception], Verdict]] = {
    errors.ImagefsError: Verdict(errno.EIO, logging.WARNING),
    errors.ServiceError: Verdict(errno.EIO, logging.WARNING),
    errors.Unreachable: Verdict(errno.ETIMEDOUT, logging.WARNING),
    errors.TlsFailure: Verdict(errno.ETIMEDOUT, logging.ERROR),
    errors.AnswerLost: Verdict(errno.ETIMEDOUT, logging.WARNING),
    errors.ServerFailed: Verdict(errno.EAGAIN, logging.WARNING),
    errors.PutOff: Verdict(errno.EAGAIN, logging.WARNING),
    errors.OutOfResources: Verdict(errno.EAGAIN, logging.WARNING),
    errors.Overloaded: Verdict(errno.EAGAIN, logging.WARNING),
    errors.CredentialsRefused: Verdict(errno.EACCES, logging.ERROR),
    errors.MalformedAnswer: Verdict(errno.EIO, logging.WARNING),
    errors.Refused: Verdict(errno.EREMOTEIO, logging.WARNING),
    errors.RefusedPermission: Verdict(errno.EPERM, logging.WARNING),
    errors.RefusedQuota: Verdict(errno.EDQUOT, logging.WARNING),
    errors.RefusedUnknownImage: Verdict(errno.ENOENT, logging.WARNING),
    errors.ContentError: Verdict(errno.EIO, logging.WARNING),
    errors.ImagePending: Verdict(errno.EAGAIN),
    errors.ImageFailed: Verdict(errno.EIO),
    errors.ImageUnusable: Verdict(errno.EIO, logging.WARNING),
    errors.ImageChanged: Verdict(errno.ESTALE, logging.WARNING),
    errors.Outdated: Verdict(errno.ESTALE),
    errors.TransferBroken: Verdict(errno.EIO, logging.WARNING),
    errors.RangeRefused: Verdict(errno.EIO, logging.WARNING),
    errors.TransferStalled: Verdict(errno.ETIMEDOUT, logging.WARNING),
    errors.ContentWrong: Verdict(errno.EIO, logging.ERROR),
    errors.TreeError: Verdict(errno.EINVAL),
    errors.NotFound: Verdict(errno.ENOENT),
    errors.NameTooLong: Verdict(errno.ENAMETOOLONG),
    errors.NameNotUtf8: Verdict(errno.EILSEQ),
    errors.Exists: Verdict(errno.EEXIST),
    errors.Busy: Verdict(errno.EBUSY),
    errors.NotPermitted: Verdict(errno.EPERM),
    errors.Unwelcome: Verdict(errno.EACCES, logging.INFO),
    errors.ReadOnly: Verdict(errno.EROFS),
    errors.NotSupported: Verdict(errno.EOPNOTSUPP),
    errors.IsDirectory: Verdict(errno.EISDIR),
    errors.NotDirectory: Verdict(errno.ENOTDIR),
    errors.NoAttribute: Verdict(errno.ENODATA),
    errors.InvalidArgument: Verdict(errno.EINVAL),
    errors.StoreError: Verdict(errno.EIO, logging.WARNING),
    errors.CacheInUse: Verdict(errno.EBUSY, logging.ERROR),
    errors.CacheUnusable: Verdict(errno.EIO, logging.WARNING),
    errors.CacheFull: Verdict(errno.ENOSPC, logging.WARNING),
    errors.Interrupted: Verdict(errno.EINTR),
    errors.SetupError: Verdict(errno.EINVAL, logging.ERROR),
    trio.TooSlowError: Verdict(errno.ETIMEDOUT, logging.WARNING),
    MemoryError: Verdict(errno.ENOMEM, logging.WARNING),
}

_NO_THREAD: Final = Verdict(errno.EAGAIN, logging.WARNING)
_NO_THREAD_TEXT: Final = "can't start new thread"
"""The text that alone tells Python's error for it from any other RuntimeError."""

BUG: Final = Verdict(errno.EIO, logging.ERROR)
"""For what nobody raised on purpose."""


def verdict_of(error: Exception) -> Verdict | None:
    """What *error* answers, by its class or the nearest class above it; None for an error that is a bug."""
    for kind in type(error).__mro__:
        verdict = _VERDICTS.get(kind)
        if verdict is not None:
            return verdict
    return _NO_THREAD if isinstance(error, RuntimeError) and str(error) == _NO_THREAD_TEXT else None


def listed_errors() -> frozenset[type[Exception]]:
    """All classes that have a row of their own."""
    return frozenset(_VERDICTS)
