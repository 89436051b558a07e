"""The one table from errors to errno values."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import trio

from imagefs import errors


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """What a failed operation answers, and how loudly the log says so."""

    errno: int
    level: int = logging.DEBUG


ERROR_REPLIES: Final[Mapping[type[Exception], ErrorReply]] = {
    errors.ImagefsError: ErrorReply(errno.EIO, logging.WARNING),
    errors.ServiceError: ErrorReply(errno.EIO, logging.WARNING),
    errors.Unreachable: ErrorReply(errno.ETIMEDOUT, logging.WARNING),
    errors.TlsFailure: ErrorReply(errno.ETIMEDOUT, logging.ERROR),
    errors.AnswerLost: ErrorReply(errno.ETIMEDOUT, logging.WARNING),
    errors.ServerFailed: ErrorReply(errno.EAGAIN, logging.WARNING),
    errors.PutOff: ErrorReply(errno.EAGAIN, logging.WARNING),
    errors.OutOfResources: ErrorReply(errno.EAGAIN, logging.WARNING),
    errors.Overloaded: ErrorReply(errno.EAGAIN, logging.WARNING),
    errors.CredentialsRefused: ErrorReply(errno.EACCES, logging.ERROR),
    errors.MalformedAnswer: ErrorReply(errno.EIO, logging.WARNING),
    errors.Refused: ErrorReply(errno.EREMOTEIO, logging.WARNING),
    errors.RefusedPermission: ErrorReply(errno.EPERM, logging.WARNING),
    errors.RefusedQuota: ErrorReply(errno.EDQUOT, logging.WARNING),
    errors.RefusedUnknownImage: ErrorReply(errno.ENOENT, logging.WARNING),
    errors.ContentError: ErrorReply(errno.EIO, logging.WARNING),
    errors.ImagePending: ErrorReply(errno.EAGAIN),
    errors.ImageFailed: ErrorReply(errno.EIO),
    errors.ImageUnusable: ErrorReply(errno.EIO, logging.WARNING),
    errors.ImageChanged: ErrorReply(errno.ESTALE, logging.WARNING),
    errors.Outdated: ErrorReply(errno.ESTALE),
    errors.TransferBroken: ErrorReply(errno.EIO, logging.WARNING),
    errors.RangeRefused: ErrorReply(errno.EIO, logging.WARNING),
    errors.TransferStalled: ErrorReply(errno.ETIMEDOUT, logging.WARNING),
    errors.ContentWrong: ErrorReply(errno.EIO, logging.ERROR),
    errors.TreeError: ErrorReply(errno.EINVAL),
    errors.NotFound: ErrorReply(errno.ENOENT),
    errors.NameTooLong: ErrorReply(errno.ENAMETOOLONG),
    errors.NameNotUtf8: ErrorReply(errno.EILSEQ),
    errors.Exists: ErrorReply(errno.EEXIST),
    errors.Busy: ErrorReply(errno.EBUSY),
    errors.NotPermitted: ErrorReply(errno.EPERM),
    errors.Unwelcome: ErrorReply(errno.EACCES, logging.INFO),
    errors.ReadOnly: ErrorReply(errno.EROFS),
    errors.NotSupported: ErrorReply(errno.EOPNOTSUPP),
    errors.IsDirectory: ErrorReply(errno.EISDIR),
    errors.NotDirectory: ErrorReply(errno.ENOTDIR),
    errors.NoAttribute: ErrorReply(errno.ENODATA),
    errors.InvalidArgument: ErrorReply(errno.EINVAL),
    errors.StoreError: ErrorReply(errno.EIO, logging.WARNING),
    errors.CacheInUse: ErrorReply(errno.EBUSY, logging.ERROR),
    errors.CacheUnusable: ErrorReply(errno.EIO, logging.WARNING),
    errors.CacheFull: ErrorReply(errno.ENOSPC, logging.WARNING),
    errors.Interrupted: ErrorReply(errno.EINTR),
    errors.SetupError: ErrorReply(errno.EINVAL, logging.ERROR),
    trio.TooSlowError: ErrorReply(errno.ETIMEDOUT, logging.WARNING),
    MemoryError: ErrorReply(errno.ENOMEM, logging.WARNING),
}
"""The table. A class without a row has that of the nearest one above it."""

_NO_THREAD: Final = ErrorReply(errno.EAGAIN, logging.WARNING)
_NO_THREAD_TEXT: Final = "can't start new thread"
"""The text that alone tells Python's error for it from any other RuntimeError."""

BUG: Final = ErrorReply(errno.EIO, logging.ERROR)
"""For what nobody raised on purpose."""


def error_reply_of(error: Exception) -> ErrorReply | None:
    """What is answered where *error* was raised; None for an error that is a bug."""
    for kind in type(error).__mro__:
        reply = ERROR_REPLIES.get(kind)
        if reply is not None:
            return reply
    return _NO_THREAD if isinstance(error, RuntimeError) and str(error) == _NO_THREAD_TEXT else None
