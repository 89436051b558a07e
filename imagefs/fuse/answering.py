"""What surrounds each operation: a deadline, interrupts, the errno table. On trio's thread.

No exception but FUSEError may reach the FUSE loop, which would end the mount.
"""

from __future__ import annotations

import errno
import functools
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import pyfuse3

from imagefs.errors import Interrupted
from imagefs.fuse.errnos import BUG, error_reply_of
from imagefs.fuse.requests import Requests

logger = logging.getLogger(__name__)

DEADLINE_S: Final = 60.0
"""No operation but a read takes longer: the service's calls have shorter deadlines of their own. Reads end when
their content makes no progress."""


class Answerer(Protocol):
    """An object whose methods are operations."""

    @property
    def requests(self) -> Requests:
        """The requests that it answers."""


A = TypeVar("A", bound=Answerer)
P = ParamSpec("P")
R = TypeVar("R")


def answering(
    operation: Callable[Concatenate[A, P], Awaitable[R]],
) -> Callable[Concatenate[A, P], Coroutine[Any, Any, R]]:
    """*operation*, ending by its deadline or an interrupt with a reply or an errno, whatever happens in it."""
    return _answering(operation, DEADLINE_S)


def answering_patiently(
    operation: Callable[Concatenate[A, P], Awaitable[R]],
) -> Callable[Concatenate[A, P], Coroutine[Any, Any, R]]:
    """As :func:`answering`, for what may wait for as long as the program likes: only an interrupt ends it."""
    return _answering(operation, math.inf)


def _answering(
    operation: Callable[Concatenate[A, P], Awaitable[R]], deadline_s: float
) -> Callable[Concatenate[A, P], Coroutine[Any, Any, R]]:
    @functools.wraps(operation)
    async def answer(self: A, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with self.requests.interruptible(deadline_s):
                return await operation(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except Exception as error:
            raise reply_for(operation.__name__, error) from error

    return answer


def reply_for(name: str, error: Exception) -> pyfuse3.FUSEError:
    """What the operation *name* answers where it failed with *error*; the log says it, too."""
    reply = error_reply_of(error)
    if reply is None:
        logger.log(BUG.level, "A bug in %s: %s", name, error, exc_info=error)
        return pyfuse3.FUSEError(BUG.errno)
    logger.log(reply.level, "%s: %s", name, str(error) or type(error).__name__)
    if name == "flush" and isinstance(error, Interrupted):
        return pyfuse3.FUSEError(errno.ECANCELED)  # tools take EINTR of close(2) for success
    return pyfuse3.FUSEError(reply.errno)
