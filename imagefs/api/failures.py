"""Why an exchange with the service failed, in words, whichever layer the error comes from.

Used by the client and by content bodies.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import Final

import requests
from urllib3.exceptions import HTTPError

from imagefs.api.connections import ConnectError
from imagefs.errors import NoConnection, OutOfResources, ServiceError, TlsFailure, Unreachable

TRANSPORT_ERRORS: Final = (
    requests.RequestException,
    HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)
"""All that an exchange over a connection can raise, whichever layer it comes from."""


_NO_WAY: Final = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
_NOTHING_LEFT: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)


def connect_failure(failure: ConnectError) -> tuple[type[ServiceError], str]:
    """The class of error for a connection that could not be made, and the reason."""
    cause = failure.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return TlsFailure, f"its certificate is not trusted: {cause.verify_message or 'it is not valid'}"
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return TlsFailure, f"TLS failed: {(cause.reason or 'no reason given').replace('_', ' ').lower()}"
    if isinstance(cause, RuntimeError | MemoryError):
        return OutOfResources, "this machine has no thread or memory left"
    if isinstance(cause, OSError) and cause.errno in _NOTHING_LEFT:
        return OutOfResources, reason_of(cause)
    if isinstance(cause, ConnectionRefusedError | socket.gaierror) or (
        isinstance(cause, OSError) and cause.errno in _NO_WAY
    ):
        return NoConnection, reason_of(cause)
    return Unreachable, reason_of(cause)


def is_timeout(exc: BaseException) -> bool:
    """Whether a socket's budget ran out."""
    return any(isinstance(error, TimeoutError) for error in _wrapped(exc))


def reason_of(exc: BaseException | None) -> str:
    """What went wrong, in a few words, from the system error that *exc* wraps.

    Never the text of a requests or urllib3 error: theirs hold addresses and objects, not reasons.
    """
    for error in _wrapped(exc):
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                return reason
        if isinstance(error, OSError) and error.strerror:
            return error.strerror.lower()
        if isinstance(error, OSError) and str(error).startswith("Tunnel connection failed"):
            return "the proxy refused: " + str(error).partition(": ")[2]
    return "the connection failed"


_REASONS: Final = (
    (TimeoutError, "it did not answer in time"),
    (ssl.SSLEOFError, "it closed the connection"),
    (ssl.SSLError, "the secure connection broke"),
    (http.client.RemoteDisconnected, "it closed the connection without an answer"),
    (http.client.IncompleteRead, "the connection ended early"),
    (http.client.HTTPException, "its answer is not HTTP"),
)


def _wrapped(exc: BaseException | None) -> Iterator[BaseException]:
    """*exc* and the errors inside it: requests and urllib3 keep theirs as causes, reasons or arguments."""
    seen: set[int] = set()
    todo: list[object] = [exc]
    while todo:
        error = todo.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            todo += [error.__context__, error.__cause__, getattr(error, "reason", None), *error.args]
            yield error
