"""An account and a library in memory, and a tree over them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import trio

from imagefs.account import Account, Snapshot
from imagefs.content.library import Library
from imagefs.core.models import ContentKey, ImageDetails, ListedImage
from imagefs.vfs.attributes import Ownership
from imagefs.vfs.tree import Tree

MD5 = "0a5352e3568bc893a9f7b65192caf1e1"
MOUNTED_NS = 5_000_000_000


def image(image_id: str, name: str, region: str = "toronto", status: str = "active") -> ListedImage:
    """A row of the listing."""
    return ListedImage(image_id, name, region, status)


def details_of(row: ListedImage, size_bytes: int | None = 1000) -> ImageDetails:
    """The details of *row*."""
    fields = (("name", row.name), ("disk_format", "iso"), ("location", "http://u:p@host/"), ("id", "evil"))
    return ImageDetails(
        row.image_id, row.name, row.region, row.status, size_bytes, MD5, 7_000_000_000, fields
    )


class FakeAccount:
    """Holds a listing and details; fails as told."""

    def __init__(self, rows: Iterable[ListedImage]) -> None:
        self.snapshot: Snapshot | None = Snapshot(tuple(rows), 0)
        self.all_details = {row.image_id: details_of(row) for row in self.snapshot.images}
        self.known: set[str] = set(self.all_details)
        self.failures: dict[str, Exception] = {}
        self.errors: dict[str, str] = {}
        self.mtimes: dict[str, int] = {}
        self._on_change: Callable[[Snapshot, Snapshot], None]
        self._on_details_change: Callable[[ImageDetails, ImageDetails], None]

    def subscribe(self, *, on_change: Any, on_details_change: Any) -> None:
        self._on_change = on_change
        self._on_details_change = on_details_change

    async def images(self) -> Snapshot:
        assert self.snapshot is not None
        return self.snapshot

    def known_details(self, image_id: str) -> ImageDetails | None:
        return self.all_details.get(image_id) if image_id in self.known else None

    async def details(self, image_id: str) -> ImageDetails:
        await trio.lowlevel.checkpoint()
        if image_id in self.failures:
            raise self.failures[image_id]
        return self.all_details[image_id]

    def error_of(self, image_id: str) -> str | None:
        return self.errors.get(image_id)

    def note_error(self, image_id: str, text: str) -> None:
        self.errors[image_id] = text

    def local_mtime(self, image_id: str) -> int | None:
        return self.mtimes.get(image_id)

    async def set_mtime(self, image_id: str, mtime_ns: int) -> None:
        self.mtimes[image_id] = mtime_ns

    def list_anew(self, *rows: ListedImage) -> None:
        """The listing is *rows* from now on."""
        old = self.snapshot
        assert old is not None
        self.snapshot = old.successor(rows, 1, ())
        for row in rows:
            self.all_details.setdefault(row.image_id, details_of(row))
        self._on_change(old, self.snapshot)

    def change_details(self, image_id: str, **fields: Any) -> None:
        """The service gives other details from now on."""
        old = self.all_details[image_id]
        self.all_details[image_id] = replace(old, **fields)
        self._on_details_change(old, self.all_details[image_id])


@dataclass
class FakeContent:
    key: ContentKey
    keepable: bool = True


@dataclass(eq=False)
class FakeReader:
    content: FakeContent
    failure: Exception | None = None

    def read_now(self, offset: int, buffer: memoryview) -> memoryview | None:
        return None

    async def read(self, offset: int, length: int) -> bytes:
        if self.failure is not None:
            raise self.failure
        return b"x" * max(0, min(length, self.content.key.size_bytes - offset))


@dataclass
class FakeLibrary:
    """Notes who has what open."""

    opened: list[FakeReader] = field(default_factory=list)
    closed: list[FakeReader] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    async def open(self, key: ContentKey, image_id: str) -> FakeReader:
        self.opened.append(FakeReader(FakeContent(key)))
        return self.opened[-1]

    def close(self, reader: FakeReader) -> None:
        self.closed.append(reader)

    def cached_bytes(self, key: ContentKey) -> int:
        return 77

    def vanished(self, image_ids: Iterable[str]) -> None:
        self.gone.extend(sorted(image_ids))


class Grove:
    """A tree with what it stands on; ``forgotten`` are the names that the kernel was told to forget."""

    def __init__(self, *rows: ListedImage, **ownership: Any) -> None:
        self.account = FakeAccount(rows)
        self.library = FakeLibrary()
        self.forgotten: list[tuple[int, bytes]] = []
        self.tree = Tree(
            cast(Account, self.account),
            cast(Library, self.library),
            Ownership(1000, 100, mounted_ns=MOUNTED_NS, **ownership),
            names_ttl_s=5.0,
            forget_name=lambda directory, name: self.forgotten.append((directory, name)),
        )

    async def find(self, *names: bytes) -> int:
        """The inode at the path of *names*, each looked up."""
        inode = 1
        for name in names:
            inode = (await self.tree.lookup(inode, name)).inode
        return inode


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Run *scene*."""
    trio.run(scene)
