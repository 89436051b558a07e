"""``image/fetch`` carried out: the download from where the person said, on a thread of its own.

Used by the actions. Understands http, https and ftp, with credentials in the URL.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Final
from urllib.error import URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import (
    FTPHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    Request,
)

from imagefs.emulator.account import Account
from imagefs.emulator.content import BLOCK_BYTES

SCHEMES: Final = ("http", "https", "ftp")
SOCKET_TIMEOUT_S = 30.0


class Fetcher:
    """Downloads into *account*'s images; *closing* ends what is under way."""

    def __init__(self, account: Account, closing: Event, clock: Callable[[], float]) -> None:
        self._account = account
        self._closing = closing
        self._clock = clock

    def begin(self, image_id: str, location: str, saving_s: float) -> None:
        """Download *location* for that image, which turns active no earlier than *saving_s* from now."""
        active_at_s = self._clock() + saving_s
        Thread(
            target=self._fetch, args=(image_id, location, active_at_s), name=f"fetch {image_id}", daemon=True
        ).start()

    def _fetch(self, image_id: str, location: str, active_at_s: float) -> None:
        try:
            content = self._account.contents.add(self._blocks(location))
        except (OSError, ValueError, URLError):
            self._account.settle(image_id, becomes="killed", at_s=self._clock())
        else:
            self._account.settle(image_id, becomes="active", at_s=active_at_s, content=content)

    def _blocks(self, location: str) -> Iterator[bytes]:
        with opener().open(request_for(location), timeout=SOCKET_TIMEOUT_S) as source:
            expected = source.headers.get("Content-Length")
            got_bytes = 0
            while block := source.read(BLOCK_BYTES):
                if self._closing.is_set():
                    raise OSError("the emulator stops")
                got_bytes += len(block)
                yield block
            if expected is not None and got_bytes != int(expected):
                raise OSError(f"{got_bytes} of {expected} bytes came")


def opener() -> OpenerDirector:
    """An opener of the three documented schemes: the default one would also read this machine's files."""
    director = OpenerDirector()
    for handler in (
        HTTPHandler,
        HTTPSHandler,
        FTPHandler,
        HTTPRedirectHandler,
        HTTPErrorProcessor,
        HTTPDefaultErrorHandler,
    ):
        director.add_handler(handler())
    return director


def is_fetchable(location: str) -> bool:
    """Whether *location* is a URL that the page allows."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return False
    return parts.scheme in SCHEMES and bool(parts.hostname)


def request_for(location: str) -> Request:
    """The request for *location*: its credentials go into a header, unless it is ftp."""
    parts = urlsplit(location)
    if parts.scheme == "ftp" or parts.username is None:
        return Request(location)  # noqa: S310 - the opener knows the three schemes only
    host = parts.netloc.rpartition("@")[2]
    request = Request(urlunsplit(parts._replace(netloc=host)))  # noqa: S310
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(pair).decode("ascii"))
    return request
