"""Every error that imagefs raises on purpose.

::

    ImagefsError
    ├── ServiceError                 a call to the service did not succeed
    │   ├── Unreachable              no answer: DNS, refused, reset, timed out
    │   │   ├── NoConnection         refused, no such host, no way there: known at once
    │   │   ├── TlsFailure           the certificate or handshake was refused; never retried
    │   │   └── AnswerLost           a change was sent, and nobody knows whether it was carried out
    │   │       └── ServerFailed     it was answered 5xx
    │   │           └── PutOff       503: the service says that it did not take it up
    │   ├── OutOfResources           this machine has no thread, memory or descriptor left for the call
    │   ├── Overloaded               429 or 5xx past the retries
    │   ├── CredentialsRefused       ID, key or signature refused, or the clock is off
    │   ├── MalformedAnswer          an answer that is not what the page documents
    │   └── Refused                  the service said no, with a text
    │       ├── RefusedPermission
    │       ├── RefusedQuota
    │       └── RefusedUnknownImage
    ├── ContentError                 an image's bytes cannot be had
    │   ├── ImagePending             it is not active yet
    │   ├── ImageFailed              the service says it was killed or failed
    │   ├── ImageUnusable            its details make no sense (no size, ...)
    │   ├── ImageChanged             it changed or vanished under a reader
    │   │   └── Outdated             its name leads to another file by now; the kernel looks it up again
    │   ├── TransferBroken           cut short, too long, wrong range, encoded, ...
    │   │   └── RangeRefused         416, or less than the range that was asked for
    │   ├── TransferStalled          no progress within the deadline
    │   └── ContentWrong             size or MD5 differ, twice
    ├── TreeError                    a path or operation the tree does not allow
    │   ├── NotFound, NameTooLong, NameNotUtf8, Exists, Busy, NotPermitted, Unwelcome
    │   └── ReadOnly, NotSupported, IsDirectory, NotDirectory, NoAttribute, InvalidArgument
    ├── StoreError                   the cache directory
    │   ├── CacheInUse               another mount has it
    │   ├── CacheUnusable            cannot be created, opened or trusted
    │   └── CacheFull                no space even after eviction
    ├── Interrupted                  who waited got a signal and wants no answer any more
    └── SetupError                   the command cannot start; one line for the person

Each message is one sentence for a person: what happened, to which image, and what to do where something can
be done. No message ever holds a key, a signature, or a URL's credentials.
"""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


class ImagefsError(Exception):
    """The root of all errors that imagefs raises on purpose."""


class ServiceError(ImagefsError):
    """A call to the service did not succeed.

    ``maybe_done`` is True only where the service may have carried out the change that was asked for: whoever asked
    looks at the account before trying again.
    """

    maybe_done: bool = False


class Unreachable(ServiceError):
    """No answer: DNS, refused, reset or timed out."""


class NoConnection(Unreachable):
    """The connection was refused, or there is no such host or no way there: nothing was sent."""


class TlsFailure(Unreachable):
    """The TLS handshake failed; retrying would not help."""


class AnswerLost(Unreachable):
    """A change was sent and its answer did not arrive or made no sense: it may have been carried out."""

    maybe_done = True


class ServerFailed(AnswerLost):
    """A change was answered 5xx: it may have been carried out."""


class PutOff(ServerFailed):
    """A change was answered 503: most likely it was not carried out, and can be asked for later.

    ``retry_after_s`` is how long the service asked to wait, where it did.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OutOfResources(ServiceError):
    """This machine has no thread, memory or descriptor left for the call: nothing was sent."""


class Overloaded(ServiceError):
    """The service answered 429 or 5xx, past the retries.

    ``retry_after_s`` is how long the service asked to wait, where it did.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CredentialsRefused(ServiceError):
    """The ID, key or signature was refused, or this machine's clock is off."""


class MalformedAnswer(ServiceError):
    """The answer is not what the service's page documents."""


class Refused(ServiceError):
    """The service said no; the message carries its text."""


class RefusedPermission(Refused):
    """The service said that the account may not do this."""


class RefusedQuota(Refused):
    """The service said that a quota or limit is reached."""


class RefusedUnknownImage(Refused):
    """The service does not know the image."""


class ContentError(ImagefsError):
    """An image's bytes cannot be had."""


class ImagePending(ContentError):
    """The image is not active yet."""


class ImageFailed(ContentError):
    """The service says that the image was killed or failed."""


class ImageUnusable(ContentError):
    """The image's details make no sense, so that its bytes could not be checked."""


class ImageChanged(ContentError):
    """The image changed or vanished while it was open."""


class Outdated(ImageChanged):
    """The inode is out of date: its image has other content by now, or is gone. The kernel looks the name up again."""


class TransferBroken(ContentError):
    """A transfer ended early, was too long, encoded, or answered another range than asked."""


class RangeRefused(TransferBroken):
    """The service does not send the range that was asked for, and may yet send everything."""


class TransferStalled(ContentError):
    """A transfer made no progress within its deadline."""


class ContentWrong(ContentError):
    """The content's size or MD5 differ from the details, twice."""


class TreeError(ImagefsError):
    """A path or an operation that the tree does not allow."""


class NotFound(TreeError):
    """There is no such image or region."""


class NameTooLong(TreeError):
    """The name is longer than 255 bytes."""


class NameNotUtf8(TreeError):
    """The name is not UTF-8."""


class Exists(TreeError):
    """There is an image of that name already."""


class Busy(TreeError):
    """Another change of the image has not come to an end yet."""


class NotPermitted(TreeError):
    """The operation makes no sense for images."""


class Unwelcome(TreeError):
    """The program reads whatever it finds, and is kept from the content of images."""


class ReadOnly(TreeError):
    """The tree, or this part of it, cannot be changed."""


class NotSupported(TreeError):
    """The service has no way to do this."""


class IsDirectory(TreeError):
    """The operation is for files, and this is a directory."""


class NotDirectory(TreeError):
    """The operation is for directories, and this is a file."""


class NoAttribute(TreeError):
    """The file has no extended attribute of that name."""


class InvalidArgument(TreeError):
    """A malformed request."""


class StoreError(ImagefsError):
    """The cache directory cannot be used as asked."""


class CacheInUse(StoreError):
    """Another mount is using the cache directory."""


class CacheUnusable(StoreError):
    """The cache directory cannot be created, opened or trusted."""


class CacheFull(StoreError):
    """There is no space in the cache, even after eviction."""


class Interrupted(ImagefsError):
    """The program that waited for an answer got a signal, and wants to be told so instead."""


class SetupError(ImagefsError):
    """A command cannot start; the message is one line for the person who ran it."""


def without_frames(error: E) -> E:
    """*error*, without the tracebacks of itself and of what led to it.

    The frames of a traceback keep alive what the calls were working on, perhaps an answer of many mebibytes, for as
    long as the error is kept. If one of them refers to the error, all of it stays until Python looks for such cycles.
    """
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:  # one that is raised again may lead back to itself
        link.__traceback__ = None
        chain.append(link)
        link = link.__cause__ or link.__context__
    return error
