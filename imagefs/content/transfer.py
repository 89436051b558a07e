"""One answer to ``image/retrieve`` on its way into the cache.

:meth:`Transfer.run` is all that a worker thread does: it opens the answer, cuts it into blocks, hands them to a sink
and reports. What it reports is carried to trio's thread by ``post``, in order; the attributes marked "on trio's thread"
are changed only there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from imagefs.api import Stop
from imagefs.content.buffers import large_buffer
from imagefs.errors import OutOfResources, RangeRefused, without_frames
from imagefs.store.blocks import BLOCK_BYTES, block_count, block_sum

CHUNK_BYTES: Final = 1 << 20
"""How much is received, summed and written at once, at most: the memory of a transfer."""

WAITED_S: Final = 0.001
"""A piece that took longer to receive had to be waited for: no more of the stream has arrived yet."""

SAMPLE_BYTES: Final = 2 << 20
"""A sample of fewer bytes would say more about the latency than about the rate."""


class Body(Protocol):
    """The answer's body: see :class:`imagefs.api.body.ContentBody`."""

    start: int
    end: int
    ranged: bool | None

    def read_into(self, buffer: memoryview) -> int: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


class Retriever(Protocol):
    """The part of the service's client that this room needs."""

    def retrieve(
        self, image_id: str, size_bytes: int, start: int = 0, end: int | None = None, *, stop: Stop
    ) -> Body: ...


class Events(Protocol):
    """What a transfer reports, on trio's thread."""

    def opened(self, transfer: Transfer, ranged: bool, first: int, end: int) -> None: ...
    def arrived(self, transfer: Transfer, first: int, count: int) -> None: ...
    def ended(self, transfer: Transfer, error: Exception | None) -> None: ...


Sink = Callable[[int, memoryview, Sequence[bytes]], None]
"""Takes whole blocks from the worker thread: the first block's number, their bytes, their checksums. May raise."""


class Transfer:
    """Blocks ``[first, end)`` of one image, asked for in one request.

    A server that does not honour Range answers with the whole content; one that refuses a range is asked for the whole
    where *whole_if_refused*. ``first`` and ``end`` then become those of the whole, and ``limit`` says how far the
    stream may run for now. ``mark`` is the block that comes next; while the transfer ``claims`` the blocks from there
    to ``end``, nobody else fetches them.
    """

    def __init__(  # noqa: PLR0913  # all by name
        self,
        *,
        image_id: str,
        size_bytes: int,
        first: int,
        end: int,
        retriever: Retriever,
        sink: Sink,
        events: Events,
        post: Callable[..., None],
        paused_s: float,
        whole_if_refused: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.image_id = image_id
        # On trio's thread:
        self.first = first
        self.end = end
        self.mark = first
        self.claims = True
        self.ranged = True
        self.ending = False
        self.asked_at = 0.0
        self.opened_at: float | None = None
        self._sampled: tuple[int, float] | None = None
        # Of the worker thread, except the fields guarded by _changed:
        self._size_bytes = size_bytes
        self._asked = (first, end)
        self._retriever = retriever
        self._sink = sink
        self._events = events
        self._post = post
        self._paused_s = paused_s
        self._whole_if_refused = whole_if_refused
        self._changed = threading.Condition()
        self._limit = end
        self._stop = Stop()
        self._body: Body | None = None
        self._clock = clock
        self._handed_on = first
        self._receiving_s = 0.0
        self._received = (first, 0.0)
        self._announced = False

    @property
    def remaining(self) -> int:
        """How many blocks are still to come."""
        return self.end - self.mark

    @property
    def limit(self) -> int:
        """The block that the stream pauses at."""
        return self._limit

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop.is_set()

    def rate_sample(self) -> tuple[int, float] | None:
        """Bytes since the last sample and the seconds spent in receiving them, where that is enough to tell a rate.

        Time that this machine spent on them otherwise says nothing about the connection. On trio's thread.
        """
        now = self._received
        if self._sampled is None:
            self._sampled = now
            return None
        size_bytes = (now[0] - self._sampled[0]) * BLOCK_BYTES
        receiving_s = now[1] - self._sampled[1]
        if size_bytes < SAMPLE_BYTES:
            return None
        self._sampled = now
        return size_bytes, receiving_s

    def set_limit(self, limit: int) -> None:
        """Let the stream run up to block *limit*, exclusive; it pauses there."""
        with self._changed:
            self._limit = limit
            self._changed.notify_all()

    def stop(self) -> None:
        """End the transfer soon; what arrived stays. From any thread, more than once."""
        with self._changed:
            self._stop.set()
            body = self._body
            self._changed.notify_all()
        if body is not None:
            body.abort()

    def run(self) -> None:
        """Carry the transfer out; never raises. The worker thread's whole life."""
        error: Exception | None = None
        try:
            self._stream()
        except Exception as raised:  # the content decides what each error means for its readers
            if self._stop.is_set():
                without_frames(raised)
            elif isinstance(raised, MemoryError):
                error = OutOfResources(f"This machine has no memory left to receive image {self.image_id}.")
            else:
                error = raised
        self._post(self._events.ended, self, error)

    def _stream(self) -> None:
        if self._stop.is_set():
            return
        body = self._open()
        try:
            with self._changed:
                self._body = body
                if self._stop.is_set():
                    return
            first = body.start // BLOCK_BYTES
            self._post(self._events.opened, self, bool(body.ranged), first, block_count(body.end))
            self._drain(body, first)
        finally:
            with self._changed:
                self._body = None
            body.close()

    def _open(self) -> Body:
        first, end = self._asked
        start, stop = first * BLOCK_BYTES, min(end * BLOCK_BYTES, self._size_bytes)
        retrieve = partial(self._retriever.retrieve, stop=self._stop)
        try:
            return retrieve(self.image_id, self._size_bytes, start, stop)
        except RangeRefused:
            if self._stop.is_set() or not self._whole_if_refused:
                raise
        return retrieve(self.image_id, self._size_bytes)

    def _drain(self, body: Body, block: int) -> None:
        """Read the body to its end, handing on whole blocks.

        Bytes of a fast stream are gathered, so that it is handled in large pieces, except for the first block, which a
        reader waits for. Of a slow stream, each block is handed on as soon as it is whole. However the stream ends, the
        whole blocks that came are kept.
        """
        left = body.end - body.start
        buffer = large_buffer(min(left, CHUNK_BYTES))
        gathered = BLOCK_BYTES
        filled = 0
        while left > 0:
            if not self._may_go_on(block):
                self._hand_on(block, buffer[: _whole(filled)])
                return
            room = min(len(buffer), gathered, (self._limit - block) * BLOCK_BYTES)
            asked_at = self._clock()
            try:
                count = body.read_into(buffer[filled:room])
            except Exception:
                self._hand_on(block, buffer[: _whole(filled)])
                raise
            filled += count
            left -= count
            took_s = self._clock() - asked_at
            self._receiving_s += took_s
            if left == 0 or filled == room or (took_s > WAITED_S and filled >= BLOCK_BYTES):
                whole = filled if left == 0 else _whole(filled)
                block = self._hand_on(block, buffer[:whole])
                buffer[: filled - whole] = buffer[whole:filled]
                filled -= whole
                gathered = min(2 * gathered, CHUNK_BYTES)
        body.read_into(buffer[:1])  # raises where the content goes on past its end

    def _hand_on(self, block: int, whole: memoryview) -> int:
        if not whole:
            return block
        sums = [
            block_sum(whole[offset : offset + BLOCK_BYTES]) for offset in range(0, len(whole), BLOCK_BYTES)
        ]
        self._sink(block, whole, sums)
        self._handed_on = block + len(sums)
        self._received = (self._handed_on, self._receiving_s)
        if not self._announced:
            self._announced = True
            self._post(self._announce)
        return self._handed_on

    def _announce(self) -> None:
        """Report all that was handed on by now, which may be more than when this was asked for. On trio's thread."""
        self._announced = False
        first, end = self.mark, self._handed_on
        if end > first:
            self.mark = end
            self._events.arrived(self, first, end - first)

    def _may_go_on(self, block: int) -> bool:
        """Wait while the limit is reached. False when the stream should end."""
        with self._changed:
            if block >= self._limit and not self._stop.is_set():
                self._changed.wait_for(lambda: self._stop.is_set() or block < self._limit, self._paused_s)
            return not self._stop.is_set() and block < self._limit


def _whole(size_bytes: int) -> int:
    """How much of *size_bytes* is whole blocks."""
    return size_bytes - size_bytes % BLOCK_BYTES
