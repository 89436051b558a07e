"""A content, and the service as the publisher sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import trio
from trio.testing import wait_all_tasks_blocked

from imagefs.core.control_lines import FetchRequest
from imagefs.core.models import ContentKey
from imagefs.errors import ImagefsError

ISO = bytes(16 * 2048) + b"\1CD001\1" + bytes(range(256)) * 4000
"""What passes for an ISO image."""


@dataclass(eq=False)
class Content:
    """Bytes in place of a spool; reading what was closed fails, and so does all with *failure*."""

    data: bytes = ISO
    closed: bool = False
    failure: ImagefsError | None = None

    @property
    def size_bytes(self) -> int:
        """Its size."""
        return len(self.data)

    def read(self, offset: int, length: int) -> bytes:
        """Its bytes."""
        assert not self.closed
        if self.failure is not None:
            raise self.failure
        return self.data[offset : offset + length]

    def md5(self) -> str:
        """Its MD5."""
        return hashlib.md5(self.data, usedforsecurity=False).hexdigest()

    def close(self) -> None:
        """Once."""
        assert not self.closed
        self.closed = True


@dataclass(eq=False)
class FakeAccount:
    """Accepts each request, or answers *refusal*; its images are active, or fail with *failure*, when told so.

    What *asked* begins comes before the answer.
    """

    refusal: ImagefsError | None = None
    failure: ImagefsError | None = None
    requests: list[tuple[FetchRequest, str, ContentKey | None]] = field(default_factory=list)
    errors: dict[str, str | None] = field(default_factory=dict)
    done: trio.Event = field(default_factory=trio.Event)
    asked: Callable[[], None] = lambda: None

    async def fetch(self, request: FetchRequest, region: str, expected: ContentKey | None = None) -> str:
        """The id of the new image."""
        self.asked()
        await wait_all_tasks_blocked()
        if self.refusal is not None:
            raise self.refusal
        self.requests.append((request, region, expected))
        return f"{len(self.requests)}"

    async def wait_active(self, image_id: str) -> None:
        """Until `done` is set."""
        await self.done.wait()
        if self.failure is not None:
            raise self.failure

    async def note_failure(self, image_id: str, text: str) -> None:
        """What would be shown on the file from now on."""
        self.errors[image_id] = text

    def note_error(self, image_id: str, text: str | None) -> None:
        """What would be shown on the file."""
        self.errors[image_id] = text
