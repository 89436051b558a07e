"""One open handle on a content. On trio's thread; made by :meth:`imagefs.content.content.Content.open`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imagefs.content.readahead import MIB, Readahead

if TYPE_CHECKING:
    from imagefs.content.content import Content

PLAN_BYTES: Final = MIB // 2
"""How far a sequential reader goes on, at least, before its readahead is planned again."""


class Reader:
    """Where one handle reads, and of which generation of the content.

    ``generation`` is that of the content when the handle was opened, and stays: see
    :class:`imagefs.content.generations.Generations`.
    """

    def __init__(self, content: Content, generation: int) -> None:
        self.content = content
        self.generation = generation
        self.readahead = Readahead()
        self._planned = (0, 0)

    async def read(self, offset: int, length: int) -> bytes | memoryview:
        """As :meth:`Content.read`."""
        return await self.content.read(self, offset, length)

    def read_now(self, offset: int, buffer: memoryview) -> memoryview | None:
        """As :meth:`Content.read_now`."""
        return self.content.read_now(self, offset, buffer)

    def went_on(self, offset: int, length: int) -> bool:
        """The reader got *length* bytes from *offset*. Returns whether it is time to plan its readahead again."""
        readahead = self.readahead
        readahead.note(offset, length)
        position, (start, end) = readahead.position, self._planned
        if start <= position < end or not readahead.window_bytes:
            return False
        self._planned = (position, position + max(PLAN_BYTES, readahead.window_bytes // 8))
        return True
