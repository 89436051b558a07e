"""One content that can be downloaded, until it is withdrawn. On trio's thread; reads run in worker threads."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import quote

import trio

from imagefs.core.extents import ExtentSet

TOKEN_BYTES: Final = 32
"""How much randomness an address holds; only the service is told it."""

CHUNK_BYTES: Final = 256 << 10


class Readable(Protocol):
    """The part of :class:`imagefs.store.spool.Spool` that this room needs."""

    @property
    def size_bytes(self) -> int:
        """Its size."""

    def read(self, offset: int, length: int) -> bytes:
        """Up to *length* bytes at *offset*. Raises StoreError."""

    def md5(self) -> str:
        """The MD5 of the whole, in hex. Raises StoreError."""

    def close(self) -> None:
        """Close it; to be called once."""


@dataclass(eq=False, slots=True)
class Offer:
    """A content at an address of its own.

    It becomes an image called ``name`` in ``region``; ``image_id`` is None until the service has accepted that.
    ``requests`` counts how often it was asked for, ``sent`` is what was sent of it to anyone; ``asked`` is called at
    each request.
    """

    region: str
    name: str
    content: Readable
    md5: str
    disk_threads: trio.CapacityLimiter
    image_id: str | None = None
    token: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    requests: int = 0
    asked: Callable[[], None] = lambda: None
    sent: ExtentSet = field(default_factory=ExtentSet)
    withdrawn: bool = False
    _downloads: set[trio.CancelScope] = field(default_factory=set)
    _idle: trio.Event = field(default_factory=trio.Event)

    @property
    def size_bytes(self) -> int:
        """The size of the content."""
        return self.content.size_bytes

    @property
    def etag(self) -> bytes:
        """Its strong validator (RFC 9110, 8.8.3)."""
        return b'"' + self.md5.encode("ascii") + b'"'

    def url(self, base: str) -> str:
        """The address below *base*; it ends with the name, for people who read logs."""
        return f"{base}/{self.token}/{quote(self.name, safe='', errors='surrogatepass')}"

    @contextmanager
    def download(self) -> Iterator[None]:
        """The content is sent within this block, which ends early when the offer is withdrawn."""
        with trio.CancelScope() as scope:
            self._downloads.add(scope)
            try:
                yield
            finally:
                self._downloads.discard(scope)
                self._idle.set()

    async def read(self, start: int, stop: int) -> bytes:
        """The first bytes from *start* to before *stop*, a chunk of them. Raises StoreError."""
        length = min(CHUNK_BYTES, stop - start)
        return await trio.to_thread.run_sync(self.content.read, start, length, limiter=self.disk_threads)

    async def end_downloads(self) -> None:
        """Nobody reads the content any more when this returns, nor begins to."""
        self.withdrawn = True
        with trio.CancelScope(shield=True):
            while self._downloads:
                for scope in self._downloads:
                    scope.cancel()
                self._idle = trio.Event()
                await self._idle.wait()

    async def withdraw(self) -> None:
        """End all downloads, then close the content."""
        if self.withdrawn:
            return
        await self.end_downloads()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.content.close, limiter=self.disk_threads)
