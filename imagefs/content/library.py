"""All contents that are open or were open lately: which readers share one, and when it is closed. On trio's thread."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Protocol, TypeVarTuple, Unpack
from weakref import WeakValueDictionary

import trio

from imagefs.content.blocks import Stored
from imagefs.content.content import Content
from imagefs.content.opening import Opening
from imagefs.content.reader import Reader
from imagefs.content.surroundings import Surroundings
from imagefs.content.uncached import Uncached
from imagefs.core.models import ContentKey
from imagefs.errors import StoreError

logger = logging.getLogger(__name__)

Ts = TypeVarTuple("Ts")


class Cache(Protocol):
    """The part of :class:`imagefs.store.directory.CacheDirectory` that this room needs. Any thread."""

    def content(self, key: ContentKey, /) -> Stored: ...
    def cached_bytes(self, key: ContentKey) -> int: ...


class Library:
    """Contents by their key."""

    def __init__(self, cache: Cache, around: Surroundings) -> None:
        self._cache = cache
        self._around = around
        self._contents: dict[ContentKey, Content] = {}
        self._opening: WeakValueDictionary[ContentKey, trio.Lock] = WeakValueDictionary()
        self._left = trio.Event()

    async def open(self, key: ContentKey, image_id: str) -> Reader:
        """A reader of the content *key*, which image *image_id* has."""
        async with self._opening.setdefault(key, trio.Lock()):
            content = self._contents.pop(key, None)
            if content is None:
                content = Content(await self._stored(key), image_id, self._around)
            self._contents[key] = content
            return content.open(image_id)

    async def _stored(self, key: ContentKey) -> Stored:
        opening = Opening(partial(self._cache.content, key))
        threads = self._around.disk_threads
        try:
            return await trio.to_thread.run_sync(opening.run, abandon_on_cancel=True, limiter=threads)
        except StoreError as error:
            logger.warning("The cache cannot be used (%s); going on without it.", error)
            return Uncached(key)
        except trio.Cancelled:
            stored = opening.leave()
            if stored is not None:
                close = partial(trio.to_thread.run_sync, stored.close, limiter=threads)
                self._around.spawn(_guarded, close)
            raise

    def close(self, reader: Reader) -> None:
        """The reader is done. After the last one, what has arrived is made durable soon."""
        reader.content.close(reader)
        if not reader.content.open_readers:
            self._left.set()

    def cached_bytes(self, key: ContentKey) -> int:
        """How much of the content is in the cache."""
        return self._cache.cached_bytes(key)

    def moved(self, image_id: str, replica_id: str) -> None:
        """The image goes, and its replica was found to have the same content."""
        for content in self._contents.values():
            content.moved(image_id, replica_id)

    def vanished(self, image_ids: Iterable[str]) -> None:
        """These images are gone from the account."""
        for image_id in image_ids:
            for content in self._contents.values():
                content.vanished(image_id)

    def contents(self) -> list[Content]:
        """All that are open or were open lately, the least recently opened first."""
        return list(self._contents.values())

    async def serve(self) -> None:
        """Make durable what arrives, and close what nobody reads any more, until cancelled."""
        settings = self._around.settings
        while True:
            with trio.move_on_after(settings.flush_every_s):
                await self._left.wait()
                await trio.sleep(settings.flush_pause_s)
            self._left = trio.Event()
            for content in self.contents():
                await _guarded(content.flush)
            await self._shut_idle(settings.idle_contents)

    async def _shut_idle(self, keep: int) -> None:
        """Close what nobody reads, except the latest *keep*; of those whose bytes are in memory, all but the latest.

        A content whose transfers have not ended yet is left for later.
        """
        idle = [key for key, content in self._contents.items() if not content.open_readers]
        in_memory = [key for key in idle if self._contents[key].in_memory]
        async with trio.open_nursery() as nursery:
            for key in {*idle[: max(0, len(idle) - keep)], *in_memory[:-1]}:
                if self._contents[key].at_rest:
                    nursery.start_soon(_guarded, self._shut_one, key)

    async def _shut_one(self, key: ContentKey) -> None:
        async with self._opening.setdefault(key, trio.Lock()):
            content = self._contents.get(key)
            if content is not None and content.at_rest:
                del self._contents[key]
                await content.shut()

    async def shut(self) -> None:
        """Stop all transfers and close all contents, readers or not."""
        async with trio.open_nursery() as nursery:
            for content in self.contents():
                nursery.start_soon(content.shut)
        self._contents.clear()


async def _guarded(task: Callable[[Unpack[Ts]], Awaitable[None]], *args: *Ts) -> None:
    """Carry *task* out; a bug in it must neither end the mount nor keep other contents from their turn."""
    try:
        await task(*args)
    except Exception:
        logger.exception("What was cached could not be recorded.")
