"""A service that sends bytes from memory and misbehaves by script, and a stage to read contents on."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from imagefs.api import Stop
from imagefs.content.library import Cache, Library
from imagefs.content.link import Link
from imagefs.content.reader import Reader
from imagefs.content.settings import ContentSettings
from imagefs.content.surroundings import Surroundings
from imagefs.core.models import ContentKey
from imagefs.errors import TransferBroken
from imagefs.store.blocks import BLOCK_BYTES
from imagefs.store.directory import CacheDirectory

MIB = 1 << 20
IMAGE = "84473"

PATIENT = ContentSettings(reader_deadline_s=30.0, wrong_for_s=30.0, paused_s=30.0, backoff_s=(0.001,))
"""A failure is soon got over, and deadlines are so long that only a reader who is never woken meets one. No stream ends
because a busy machine is late to read on."""


def made_up(size_bytes: int, seed: int = 1) -> bytes:
    """Bytes of which no two blocks are alike."""
    return random.Random(seed).randbytes(size_bytes)


def key_of(data: bytes) -> ContentKey:
    """The key of the content *data*."""
    return ContentKey(len(data), hashlib.md5(data, usedforsecurity=False).hexdigest())


@dataclass(frozen=True)
class Answer:
    """How one request is answered.

    ``wrong_at`` flips the byte at that offset of the image, ``cut_after`` ends the body so many bytes after its
    start, ``gate`` is waited for before each piece; with ``goes_on`` it does not end where it should.
    """

    ranged: bool = True
    piece_bytes: int = MIB
    wrong_at: int | None = None
    cut_after: int | None = None
    error: Exception | None = None
    data: bytes | None = None
    gate: threading.Event | None = None
    pause_s: float = 0.0
    goes_on: bool = False


class FakeBody:
    """The body of one answer; may be aborted from any thread."""

    def __init__(
        self, site: FakeSite, answer: Answer, data: bytes, start: int, end: int, ranged: bool
    ) -> None:
        self.start = start
        self.end = end
        self.ranged: bool | None = ranged
        self.closed = False
        self.waits = False
        self._site = site
        self._answer = answer
        self._data = data
        self._position = start
        self._aborted = threading.Event()

    def read_into(self, buffer: memoryview) -> int:
        answer = self._answer
        self.waits = answer.gate is not None
        while answer.gate is not None and not answer.gate.wait(0.002):
            self._raise_if_aborted()
        if answer.pause_s:
            time.sleep(answer.pause_s)
        self._raise_if_aborted()
        if answer.goes_on and self._position == self.end:
            raise TransferBroken("it goes on after its end")
        stop = min(self._position + min(len(buffer), answer.piece_bytes), self.end)
        if answer.cut_after is not None:
            stop = min(stop, self.start + answer.cut_after)
            if stop <= self._position < self.end:
                raise TransferBroken("it ended early")
        piece = bytearray(self._data[self._position : stop])
        if answer.wrong_at is not None and self._position <= answer.wrong_at < stop:
            piece[answer.wrong_at - self._position] ^= 0xFF
        self._position = stop
        self._site.note_sent(len(piece))
        buffer[: len(piece)] = piece
        return len(piece)

    def _raise_if_aborted(self) -> None:
        if self._aborted.is_set():
            raise TransferBroken("the transfer was stopped")

    def abort(self) -> None:
        self._aborted.set()

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeSite:
    """The service: ``script`` says how the request of a number (from 0) is answered; the last goes on for good."""

    data: bytes
    script: Sequence[Answer] = (Answer(),)
    requests: list[tuple[str, int, int]] = field(default_factory=list)
    bodies: list[FakeBody] = field(default_factory=list)
    sent_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def retrieve(
        self, image_id: str, size_bytes: int, start: int = 0, end: int | None = None, *, stop: Stop
    ) -> FakeBody:
        end = size_bytes if end is None else end
        with self._lock:
            answer = self.script[min(len(self.requests), len(self.script) - 1)]
            self.requests.append((image_id, start, end))
        if answer.error is not None:
            raise answer.error
        data = self.data if answer.data is None else answer.data
        if not answer.ranged:
            start, end = 0, size_bytes
        body = FakeBody(self, answer, data, start, end, answer.ranged)
        self.bodies.append(body)
        return body

    def note_sent(self, size_bytes: int) -> None:
        with self._lock:
            self.sent_bytes += size_bytes


@dataclass
class Stage:
    """What a scene plays on."""

    site: FakeSite
    library: Library
    around: Surroundings
    key: ContentKey
    errors: dict[str, str]
    doubted: list[str]

    async def open(self, image_id: str = IMAGE) -> Reader:
        """A reader of the site's image."""
        return await self.library.open(self.key, image_id)

    async def read_all(self, reader: Reader, step: int = BLOCK_BYTES) -> bytes:
        """What ``cp`` gets."""
        return b"".join([await read(reader, offset, step) for offset in range(0, self.key.size_bytes, step)])


async def read(reader: Reader, offset: int, length: int) -> bytes:
    """As the adapter reads: at once if possible, else by waiting."""
    part: bytes | memoryview | None = reader.read_now(offset, memoryview(bytearray(length)))
    if part is None:
        part = await reader.read(offset, length)
    return bytes(part)


@asynccontextmanager
async def staged(
    site: FakeSite,
    cache: Cache,
    settings: ContentSettings = PATIENT,
    key: ContentKey | None = None,
    shut_s: float = 60.0,
) -> AsyncIterator[Stage]:
    """A library of contents that come from *site* and are kept in *cache*; shut as at the end of a mount."""
    token = trio.lowlevel.current_trio_token()
    errors: dict[str, str] = {}
    doubted: list[str] = []

    def doubt(image_id: str) -> trio.Event:
        doubted.append(image_id)
        looked_up = trio.Event()
        looked_up.set()
        return looked_up

    async with trio.open_nursery() as nursery:
        around = Surroundings(
            retriever=site,
            link=Link(),
            spawn=nursery.start_soon,
            post=token.run_sync_soon,
            clock=trio.current_time,
            transfer_threads=trio.CapacityLimiter(16),
            disk_threads=trio.CapacityLimiter(2),
            hash_threads=trio.CapacityLimiter(1),
            note_error=errors.__setitem__,
            doubt=doubt,
            settings=settings,
        )
        library = Library(cache, around)
        yield Stage(site, library, around, key or key_of(site.data), errors, doubted)
        with trio.move_on_after(shut_s):
            await library.shut()
        nursery.cancel_scope.cancel()


def open_cache(path: Path, max_bytes: int = 256 * MIB) -> CacheDirectory:
    """The cache at *path*, without a floor of free space."""
    return CacheDirectory.open(path, owner="/mnt/images", max_bytes=max_bytes, min_free_bytes=0)


def play(
    scene: Callable[[Stage], Awaitable[None]],
    site: FakeSite,
    cache: Cache,
    settings: ContentSettings = PATIENT,
    key: ContentKey | None = None,
) -> None:
    """Run *scene* on a stage of its own."""

    async def main() -> None:
        async with staged(site, cache, settings, key) as stage:
            await scene(stage)

    trio.run(main)


async def outcome(call: Callable[[], Awaitable[bytes]]) -> bytes | Exception:
    """What *call* returns or raises."""
    try:
        return await call()
    except Exception as error:
        return error


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a worker thread brings about."""
    while not condition():  # noqa: ASYNC110  # there is no event to wait for
        await trio.sleep(0.001)


def difference(got: bytes, wanted: bytes) -> int | None:
    """Where *got* first differs from *wanted*; None where it does not. Keeps mebibytes out of failed assertions."""
    if got == wanted:
        return None
    return next(
        (at for at, pair in enumerate(zip(got, wanted, strict=False)) if pair[0] != pair[1]), len(got)
    )
