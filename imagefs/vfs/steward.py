"""What the mount tells its owner, and does for its owner, through extended attributes that are not listed.

The command line uses them: there is no other way into a running mount. All are named ``user.imagefs.NAME``, and all are
read, even to have something done: on a read-only mount, the kernel lets nobody set an attribute.

==============  =====  ====================================================================
``status``      root   how the mount is doing, as JSON
``contents.N``  root   a page of what is cached, from row N on, as a JSON array
``verify.KEY``  root   compare what is cached of a content with its checksums; the result as
                       JSON. KEY is ``SIZE.CHECKSUM.ID``, as far as a row of contents has them
``pin``         image  is there where the image's content is never evicted
``do.evict``    root   drop everything from the cache that is neither pinned nor in use
``do.evict``    image  drop its content from the cache
``do.pin``      image  never evict its content
``do.unpin``    image  evict it when it is its turn
==============  =====  ====================================================================

On trio's thread; the cache is asked in worker threads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

import trio

from imagefs.account import Account
from imagefs.core.models import ContentKey
from imagefs.core.names import lasting_path
from imagefs.errors import Busy, ImageUnusable, InvalidArgument, StoreError
from imagefs.vfs.nodes import Image, Node, Root
from imagefs.vfs.xattrs import ACTIONS, PREFIX, no_attribute

STATUS: Final = PREFIX + b"status"
CONTENTS: Final = PREFIX + b"contents."
PINNED: Final = PREFIX + b"pin"
VERIFY: Final = PREFIX + b"verify."
EVICT: Final = ACTIONS + b"evict"
PIN: Final = ACTIONS + b"pin"
UNPIN: Final = ACTIONS + b"unpin"
DONE: Final = b"done"

_KEY: Final = re.compile(rb"([0-9]{1,19})\.([0-9a-f]{32})?\.([A-Za-z0-9_-]{1,64})?")

PAGE_ROWS: Final = 36
"""How many contents one attribute lists: a row takes 1,800 bytes at most, and an attribute 64 KiB."""

T = TypeVar("T")


class CachedContent(Protocol):
    """A row of what is cached, as :class:`imagefs.store.inventory.CachedContent`."""

    @property
    def key(self) -> ContentKey:
        """Whose bytes they are."""

    @property
    def cached_bytes(self) -> int:
        """How much of it is cached."""

    @property
    def used_ns(self) -> int:
        """When it was last used, in nanoseconds since the epoch."""

    @property
    def verified(self) -> bool:
        """Whether its MD5 was found right."""

    @property
    def pinned(self) -> bool:
        """Whether it is never evicted."""


class Verification(Protocol):
    """What came of comparing cached blocks with their checksums."""

    @property
    def checked_bytes(self) -> int:
        """How much was compared."""

    @property
    def damaged_bytes(self) -> int:
        """How much of it was damaged, and is forgotten."""


class Pins(Protocol):
    """What is never evicted; any thread."""

    def add(self, key: ContentKey) -> None:
        """Keep a content."""

    def remove(self, key: ContentKey) -> None:
        """Let it go when it is its turn."""

    def contents(self) -> list[ContentKey]:
        """All that is kept."""


class Cache(Protocol):
    """The part of :class:`imagefs.store.directory.CacheDirectory` that is needed here; any thread.

    Its methods raise :class:`imagefs.errors.StoreError`.
    """

    @property
    def pins(self) -> Pins:
        """What is never evicted."""

    def cached_contents(self) -> Sequence[CachedContent]:
        """All that is cached."""

    def evict(self, key: ContentKey) -> int:
        """Drop a content, except what is in use: how many bytes were freed."""

    def verify(self, key: ContentKey) -> Verification:
        """Compare what is cached of a content with its checksums."""


class Steward:
    """Answers the attributes. *status* makes the value of ``status``, without waiting for the service."""

    def __init__(
        self,
        account: Account,
        cache: Cache,
        threads: trio.CapacityLimiter,
        status: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._account = account
        self._cache = cache
        self._threads = threads
        self._status = status

    async def get(self, node: Node, name: bytes) -> bytes | None:
        """The attribute's value; None for one that is not the steward's. Raises NoAttribute."""
        if isinstance(node, Root):
            return await self._get_of_root(name)
        if isinstance(node, Image):
            return await self._get_of_image(node, name)
        return None

    async def _get_of_root(self, name: bytes) -> bytes | None:
        if name == STATUS:
            return await self._status()
        if name == EVICT:
            await self._in_thread(self._evict_all)
            return DONE
        if name.startswith(CONTENTS):
            return await self._page(name.removeprefix(CONTENTS))
        if name.startswith(VERIFY):
            return await self._verified(name.removeprefix(VERIFY))
        return None

    async def _get_of_image(self, image: Image, name: bytes) -> bytes | None:
        if name == PINNED:
            if not await self._is_pinned(image):
                raise no_attribute(name)
            return b"yes"
        if name == EVICT and await self._is_pinned(image):
            raise Busy(f"The content of image {image.image_id} is pinned.")
        changes = {EVICT: self._cache.evict, PIN: self._cache.pins.add, UNPIN: self._cache.pins.remove}
        change = changes.get(name)
        if change is None:
            return None
        await self._in_thread(partial(change, await self._key(image)))
        return DONE

    async def _is_pinned(self, image: Image) -> bool:
        return await self._key(image) in self._cache.pins.contents()

    async def _key(self, image: Image) -> ContentKey:
        key = (await self._account.details(image.image_id)).content_key
        if key is None:
            raise ImageUnusable(f"Image {image.image_id} has no size yet, and nothing of it is cached.")
        return key

    async def _page(self, start: bytes) -> bytes:
        if not start.isdigit():
            raise InvalidArgument("The page of what is cached begins with a number.")
        rows = await self._in_thread(self._cache.cached_contents)
        first = int(start)
        paths = self._paths()
        return _json([content_row(row, paths.get(row.key)) for row in rows[first : first + PAGE_ROWS]])

    async def _verified(self, key: bytes) -> bytes:
        """The result for any content, as no image may have it any more."""
        match = _KEY.fullmatch(key)
        if match is None or not (match[2] or match[3]):
            raise InvalidArgument("What is to be verified is SIZE.CHECKSUM.ID.")
        checksum, image_id = (text.decode() if text else None for text in match.groups()[1:])
        content = ContentKey(int(match[1]), checksum, image_id)
        found = await self._in_thread(partial(self._cache.verify, content))
        return _json({"checked": found.checked_bytes, "damaged": found.damaged_bytes})

    def _paths(self) -> dict[ContentKey, str]:
        """One path below the mount for each content that is known."""
        paths: dict[ContentKey, str] = {}
        snapshot = self._account.snapshot
        for image in snapshot.images if snapshot else ():
            details = self._account.known_details(image.image_id)
            key = details.content_key if details else None
            if key is not None:
                paths.setdefault(key, lasting_path(image.region, image.name, image.image_id))
        return paths

    def _evict_all(self) -> None:
        evict_all(self._cache, self._cache.cached_contents())

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._threads)


def takes_long(name: bytes) -> bool:
    """Whether asking for the attribute *name* may take as long as reading a whole image."""
    return name.startswith(VERIFY)


def evict_all(cache: Cache, rows: Iterable[CachedContent]) -> int:
    """Drop all of *rows* that is neither pinned nor in use: how many bytes were freed.

    Raises StoreError where one could not be dropped, after all others.
    """
    freed_bytes = 0
    failure: StoreError | None = None
    for row in rows:
        if not row.pinned:
            try:
                freed_bytes += cache.evict(row.key)
            except StoreError as error:
                failure = error
    if failure is not None:
        raise failure
    return freed_bytes


def content_row(row: CachedContent, path: str | None) -> dict[str, object]:
    """A row of what is cached, for JSON; *path* is that of one image with this content."""
    return {
        "path": path,
        "checksum": row.key.checksum,
        "image_id": row.key.image_id,
        "size": row.key.size_bytes,
        "cached": row.cached_bytes,
        "used": row.used_ns // 10**9,
        "verified": row.verified,
        "pinned": row.pinned,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
