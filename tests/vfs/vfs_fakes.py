"""An account and a library in memory, and a tree over them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import trio
import trio.testing

from imagefs.account import Account, Snapshot
from imagefs.content.library import Library
from imagefs.core.control_lines import FetchRequest
from imagefs.core.models import ContentKey, ImageDetails, ListedImage
from imagefs.errors import CacheUnusable
from imagefs.vfs.attributes import Ownership
from imagefs.vfs.control import ControlFiles
from imagefs.vfs.drafts import Drafts
from imagefs.vfs.files import Files
from imagefs.vfs.steward import Steward
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
    """Holds a listing and details, and changes them as asked; fails as told.

    ``refusal`` is raised by every change; ``answering`` is what each of them waits for.
    """

    def __init__(self, rows: Iterable[ListedImage]) -> None:
        self.snapshot: Snapshot | None = Snapshot(tuple(rows), 0)
        self.all_details = {row.image_id: details_of(row) for row in self.snapshot.images}
        self.known: set[str] = set(self.all_details)
        self.failures: dict[str, Exception] = {}
        self.hanging: dict[str, trio.Event] = {}
        self.errors: dict[str, str] = {}
        self.mtimes: dict[str, int] = {}
        self.going: set[str] = set()
        self.calls: list[tuple[Any, ...]] = []
        self.refusal: Exception | None = None
        self.answering = trio.Event()
        self.answering.set()
        self._on_change: Callable[[Snapshot, Snapshot], None] = lambda old, new: None
        self._on_details_change: Callable[[ImageDetails, ImageDetails], None] = lambda old, new: None
        self.tell_moved: Callable[[str, str], None] = lambda image_id, replica_id: None

    def subscribe(self, *, on_change: Any, on_details_change: Any, on_moved: Any) -> None:
        self._on_change = on_change
        self._on_details_change = on_details_change
        self.tell_moved = on_moved

    def shown(self, image_id: str) -> ListedImage | None:
        return None if self.snapshot is None else self.snapshot.by_id.get(image_id)

    async def images(self) -> Snapshot:
        assert self.snapshot is not None
        return self.snapshot

    async def refresh(self) -> Snapshot:
        """Nothing is new."""
        return await self.images()

    def known_details(self, image_id: str) -> ImageDetails | None:
        return self.all_details.get(image_id) if image_id in self.known else None

    async def details(self, image_id: str) -> ImageDetails:
        await trio.lowlevel.checkpoint()
        if image_id in self.hanging:
            await self.hanging[image_id].wait()
        if image_id in self.failures:
            raise self.failures[image_id]
        self.known.add(image_id)
        return self.all_details[image_id]

    def error_of(self, image_id: str) -> str | None:
        return self.errors.get(image_id)

    def note_error(self, image_id: str, text: str) -> None:
        self.errors[image_id] = text

    def local_mtime(self, image_id: str) -> int | None:
        return self.mtimes.get(image_id)

    async def set_mtime(self, image_id: str, mtime_ns: int) -> None:
        self.mtimes[image_id] = mtime_ns

    def prefetch_details(self, region: str) -> None:
        pass

    def location_of(self, image_id: str) -> str | None:
        return None

    async def _change(self, *call: Any) -> None:
        self.calls.append(call)
        await self.answering.wait()
        if self.refusal is not None:
            raise self.refusal

    async def replicate(self, image_id: str, region: str, name: str) -> str:
        await self._change("replicate", image_id, region, name)
        replica = ListedImage(f"{image_id}{len(self.calls)}", name, region, "saving")
        self.list_anew(*self._rows, replica)
        return replica.image_id

    def is_going(self, image_id: str) -> bool:
        return image_id in self.going

    async def move(self, image_id: str, region: str, name: str) -> str:
        await self._change("move", image_id, region, name)
        self.going.add(image_id)
        replica = ListedImage(f"{image_id}{len(self.calls)}", name, region, "saving")
        self.list_anew(*(row for row in self._rows if row.image_id != image_id), replica)
        return replica.image_id

    async def rename(self, image_id: str, name: str) -> None:
        await self._change("rename", image_id, name)
        self.list_anew(*(replace(row, name=name) if row.image_id == image_id else row for row in self._rows))

    async def delete(self, image_id: str) -> None:
        await self._change("delete", image_id)
        self.list_anew(*(row for row in self._rows if row.image_id != image_id))

    async def fetch(self, request: FetchRequest, region: str) -> str:
        await self._change("fetch", request.shown_url, region, request.name, request.image_format)
        new = ListedImage(f"f{len(self.calls)}", request.name, region, "queued")
        self.list_anew(*self._rows, new)
        return new.image_id

    async def wait_active(self, image_id: str) -> None:
        await self._change("wait_active", image_id)

    @property
    def _rows(self) -> tuple[ListedImage, ...]:
        assert self.snapshot is not None
        return self.snapshot.images

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


@dataclass(frozen=True)
class FakeCaller:
    """A program that puts something in, or closes."""

    owner: int
    process: int | None


@dataclass(eq=False)
class FakeContent:
    key: ContentKey
    keepable: bool = True


@dataclass(eq=False)
class FakeReader:
    content: FakeContent
    generation: int = 0
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
    replicas: dict[str, str] = field(default_factory=dict)
    contents: dict[ContentKey, FakeContent] = field(default_factory=dict)
    generation: int = 0

    async def open(self, key: ContentKey, image_id: str) -> FakeReader:
        content = self.contents.setdefault(key, FakeContent(key))
        self.opened.append(FakeReader(content, self.generation))
        return self.opened[-1]

    def close(self, reader: FakeReader) -> None:
        self.closed.append(reader)

    def cached_bytes(self, key: ContentKey) -> int:
        return 77

    def moved(self, image_id: str, replica_id: str) -> None:
        self.replicas[image_id] = replica_id

    def vanished(self, image_ids: Iterable[str]) -> None:
        self.gone.extend(sorted(image_ids))


class MemorySpool:
    """What a spool does, in memory."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.touched: set[int] = set()
        self.closed = 0

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    @property
    def written_bytes(self) -> int:
        return len(self.touched)

    def write(self, offset: int, data: bytes) -> None:
        assert not self.closed
        self.truncate(max(len(self.content), offset + len(data)))
        self.content[offset : offset + len(data)] = data
        self.touched |= set(range(offset, offset + len(data)))

    def truncate(self, size_bytes: int) -> None:
        assert not self.closed
        self.content = self.content[:size_bytes].ljust(size_bytes, b"\0")
        self.touched = {position for position in self.touched if position < size_bytes}

    def read(self, offset: int, length: int) -> bytes:
        assert not self.closed
        return bytes(self.content[offset : offset + length])

    def md5(self) -> str:
        return hashlib.md5(self.content, usedforsecurity=False).hexdigest()

    def close(self) -> None:
        self.closed += 1


@dataclass(frozen=True)
class FakeRow:
    """A row of what is cached."""

    key: ContentKey
    pinned: bool
    cached_bytes: int = 5
    used_ns: int = 7 * 10**9
    verified: bool = True


@dataclass(frozen=True)
class FakeVerification:
    """All is well."""

    checked_bytes: int = 5
    damaged_bytes: int = 0


class FakePins:
    """A list of pins."""

    def __init__(self) -> None:
        self.kept: list[ContentKey] = []

    def add(self, key: ContentKey) -> None:
        self.kept.append(key)

    def remove(self, key: ContentKey) -> None:
        self.kept.remove(key)

    def contents(self) -> list[ContentKey]:
        return list(self.kept)


class FakeCache:
    """What is cached, by keys alone; one of them cannot be evicted."""

    def __init__(self) -> None:
        self.keys: list[ContentKey] = []
        self.stuck: ContentKey | None = None
        self.verified: list[ContentKey] = []
        self.pins = FakePins()

    def cached_contents(self) -> list[FakeRow]:
        return [FakeRow(key, key in self.pins.kept) for key in self.keys]

    def evict(self, key: ContentKey) -> int:
        if key == self.stuck:
            raise CacheUnusable("The disk fails.")
        self.keys.remove(key)
        return 5

    def verify(self, key: ContentKey) -> FakeVerification:
        self.verified.append(key)
        return FakeVerification()


class Grove:
    """A tree with what it stands on."""

    def __init__(self, *rows: ListedImage, **ownership: Any) -> None:
        self.account = FakeAccount(rows)
        self.library = FakeLibrary()
        self.cache = FakeCache()
        account = cast(Account, self.account)
        self.controls = ControlFiles(account, lambda: MOUNTED_NS, self._spawn)
        self.drafts = Drafts(
            account,
            MemorySpool,
            trio.CapacityLimiter(1),
            self._spawn,
        )
        self.files = Files(account, cast(Library, self.library), self.drafts, self.controls)
        self.tree = Tree(
            account,
            self.files,
            self.drafts,
            self.controls,
            Ownership(1000, 100, mounted_ns=MOUNTED_NS, **ownership),
            Steward(account, self.cache, trio.CapacityLimiter(1), self._status),
            wall_ns=lambda: MOUNTED_NS,
            numbers_apart=True,
        )

    async def _status(self) -> bytes:
        return b"{}"

    def _spawn(self, task: Callable[..., Awaitable[object]], *args: object) -> None:
        trio.lowlevel.spawn_system_task(task, *args)

    async def find(self, *names: bytes) -> int:
        """The inode at the path of *names*, each looked up, as the kernel knows it."""
        inode = 1
        for name in names:
            found = await self.tree.lookup(inode, name)
            inode = found.edition or found.inode
        return inode


def play(scene: Callable[[], Awaitable[None]]) -> None:
    """Run *scene*; time passes when nothing else happens."""
    trio.run(scene, clock=trio.testing.MockClock(autojump_threshold=0.02))
