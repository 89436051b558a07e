"""The one table from errors to errno values covers every error, as the contract says."""

from __future__ import annotations

import errno
from contextlib import suppress

import pytest

from imagefs import errors
from imagefs.fuse.errnos import ERROR_REPLIES, error_reply_of


def all_errors(root: type[Exception] = errors.ImagefsError) -> set[type[Exception]]:
    """*root* and all that derive from it."""
    return {root}.union(*(all_errors(kind) for kind in root.__subclasses__()))


@pytest.mark.parametrize("kind", sorted(all_errors(), key=lambda kind: kind.__name__))
def test_every_error_has_an_errno(kind: type[Exception]) -> None:
    """Each class, or the nearest above it other than the root, has a row."""
    nearest = next(each for each in kind.__mro__ if each in ERROR_REPLIES)
    assert kind is errors.ImagefsError or nearest is not errors.ImagefsError
    reply = error_reply_of(kind("a reason"))
    assert reply is not None
    assert reply.errno in errno.errorcode


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (errors.NotFound, errno.ENOENT),
        (errors.RefusedUnknownImage, errno.ENOENT),
        (errors.NameTooLong, errno.ENAMETOOLONG),
        (errors.NameNotUtf8, errno.EILSEQ),
        (errors.CredentialsRefused, errno.EACCES),
        (errors.RefusedPermission, errno.EPERM),
        (errors.RefusedQuota, errno.EDQUOT),
        (errors.Refused, errno.EREMOTEIO),
        (errors.Overloaded, errno.EAGAIN),
        (errors.Unreachable, errno.ETIMEDOUT),
        (errors.TransferStalled, errno.ETIMEDOUT),
        (errors.ImagePending, errno.EAGAIN),
        (errors.ImageFailed, errno.EIO),
        (errors.ContentWrong, errno.EIO),
        (errors.ImageChanged, errno.ESTALE),
        (errors.Exists, errno.EEXIST),
        (errors.ReadOnly, errno.EROFS),
        (errors.NotSupported, errno.EOPNOTSUPP),
        (errors.NotPermitted, errno.EPERM),
        (errors.Unwelcome, errno.EACCES),
        (errors.CacheFull, errno.ENOSPC),
        (errors.AnswerLost, errno.ETIMEDOUT),
        (errors.ServerFailed, errno.EAGAIN),
        (errors.PutOff, errno.EAGAIN),
        (errors.Busy, errno.EBUSY),
        (errors.InvalidArgument, errno.EINVAL),
    ],
)
def test_the_contract_s_table_holds(kind: type[Exception], number: int) -> None:
    """What happened is told by the errno that people expect."""
    reply = error_reply_of(kind("a reason"))
    assert reply is not None
    assert reply.errno == number


def test_every_row_is_an_error_that_exists() -> None:
    """No row outlives its error; the rest are foreign errors that mean something."""
    assert {kind.__name__ for kind in ERROR_REPLIES.keys() - all_errors()} == {"TooSlowError", "MemoryError"}


def test_what_nobody_raised_on_purpose_has_no_row() -> None:
    """Bugs are told apart."""
    assert error_reply_of(KeyError("handle")) is None


def test_only_a_lost_answer_may_have_done_something() -> None:
    """Whoever may have changed the account says so."""
    lost = {errors.AnswerLost, errors.ServerFailed, errors.PutOff}
    assert {kind for kind in all_errors(errors.ServiceError) if kind.maybe_done} == lost


def test_an_error_that_is_kept_leads_to_no_frame_even_where_it_leads_back_to_itself() -> None:
    """Raised, the cause of another one, and raised again while that is handled."""
    first = errors.Unreachable("first")
    try:
        try:
            raise first
        except errors.Unreachable as error:
            raise errors.AnswerLost("second") from error
    except errors.AnswerLost as error:
        second = error
        with suppress(errors.Unreachable):
            raise first  # noqa: B904  # the same error
    assert (first.__context__, second.__cause__) == (second, first)
    assert errors.without_frames(first) is first
    assert (first.__traceback__, second.__traceback__) == (None, None)
