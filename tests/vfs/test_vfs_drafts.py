"""Drafts: how a new file becomes a replica, and what becomes of one that does not."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from functools import partial

import pytest
import trio
import trio.testing
from drafting import Workshop, work
from hypothesis import given
from hypothesis import strategies as st
from vfs_fakes import FakeAccount, FakeCaller, MemorySpool, image

from imagefs.core.models import ContentKey
from imagefs.errors import (
    AnswerLost,
    Busy,
    Exists,
    ImagePending,
    NotFound,
    NotSupported,
    Overloaded,
    ReadOnly,
    Refused,
    RefusedPermission,
    RefusedQuota,
    ServerFailed,
    StoreError,
    Unreachable,
)
from imagefs.vfs.drafts import LINGER_S, NAMES_PATIENCE_S
from imagefs.vfs.fillers import Fillers
from imagefs.vfs.filling import PREPARING_BYTES

CONTENT = bytes(range(200)) * 5
OTHER = b"o" * 600


def account() -> FakeAccount:
    """Image 1 has CONTENT and 2 has OTHER, both in montreal; 3 is in toronto already, and 4 is not ready."""
    rows = [
        image("1", "a", "montreal"),
        image("2", "b", "montreal"),
        image("3", "c"),
        image("4", "d", "montreal", status="saving"),
    ]
    made = FakeAccount(rows)
    for row, content in zip(rows, (CONTENT, OTHER, b"c" * 300, b"d" * 5000), strict=True):
        give(made, row.image_id, content)
    return made


def give(made: FakeAccount, image_id: str, content: bytes) -> None:
    """Let the image have *content*."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    made.change_details(image_id, size_bytes=len(content), checksum=md5)


REPLICATED = [("replicate", "1", "toronto", "new")]

PIECES = st.permutations(range(0, len(CONTENT), 100)).flatmap(
    lambda order: st.lists(st.sampled_from(order)).map(lambda again: [*again, *order])
)


@given(PIECES)
def test_copied_ranges_in_any_order_are_one_replica(pieces: list[int]) -> None:
    """Each piece may come at any time and more than once; only the last that was missing asks the service."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        seen: set[int] = set()
        for offset in pieces:
            assert await shop.drafts.filling.copy(draft, shop.key("1"), offset, offset, 100) == 100
            seen.add(offset)
            assert shop.account.calls == (REPLICATED if len(seen) == 10 else [])
        await shop.drafts.filling.flush(draft)
        assert (draft.size_bytes, shop.shown, shop.spools) == (1000, [], [])

    work(account(), scene)


@given(PIECES)
def test_bytes_in_any_order_are_one_replica(pieces: list[int]) -> None:
    """Bytes that are an image's in the end have it replicated, however they come."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        for offset in pieces:
            assert await shop.drafts.filling.write(draft, offset, CONTENT[offset : offset + 100]) == 100
        await shop.drafts.filling.flush(draft)
        await shop.drafts.filling.flush(draft)
        assert shop.account.calls == REPLICATED
        await shop.drafts.released(draft)
        assert shop.spools[0].closed == 1

    work(account(), scene)


def test_two_handles_fill_one_draft() -> None:
    """A program may copy through one handle and flush another."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        shop.drafts.opened(draft)
        await shop.drafts.filling.flush(draft)
        await shop.drafts.filling.copy(draft, shop.key("1"), 0, 0, 600)
        assert await shop.drafts.filling.copy(draft, shop.key("1"), 600, 600, 1 << 30) == 400
        await shop.drafts.filling.flush(draft)
        await shop.drafts.released(draft)
        await shop.drafts.filling.flush(draft)
        await shop.drafts.released(draft)
        assert shop.account.calls == REPLICATED

    work(account(), scene)


def test_two_flushes_at_once_are_one_replica() -> None:
    """The second waits for what becomes of the first."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        await shop.drafts.filling.write(draft, 0, OTHER)
        shop.account.answering = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shop.drafts.filling.flush, draft)
            nursery.start_soon(shop.drafts.filling.flush, draft)
            await trio.testing.wait_all_tasks_blocked(0.01)
            shop.account.answering.set()
        assert shop.account.calls == [("replicate", "2", "toronto", "new")]

    work(account(), scene)


def test_a_copy_that_is_interrupted_and_sent_again_is_one_replica() -> None:
    """A program that is stopped while the service is asked sends its copy anew when it goes on."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        shop.account.answering = trio.Event()
        with trio.move_on_after(1):
            await shop.drafts.filling.copy(draft, shop.key("1"), 0, 0, 1000)
        assert draft.image_id is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(shop.drafts.filling.copy, draft, shop.key("1"), 0, 0, 1000)
            await trio.testing.wait_all_tasks_blocked(0.01)
            shop.account.answering.set()
        assert draft.image_id is not None
        assert shop.account.calls == REPLICATED

    work(account(), scene)


def test_the_beginning_of_a_larger_image_is_not_taken_for_a_smaller_one() -> None:
    """Where one image's bytes begin with another's, only the end of writing tells which is meant."""
    made = account()
    give(made, "2", CONTENT[:600])

    async def scene(shop: Workshop) -> None:
        whole, part = shop.create("whole"), shop.create("part")
        for draft, size in ((whole, 1000), (part, 600)):
            for offset in range(0, size, 200):
                await shop.drafts.filling.write(draft, offset, CONTENT[offset : offset + 200])
            await shop.drafts.filling.flush(draft)
        assert shop.account.calls == [
            ("replicate", "1", "toronto", "whole"),
            ("replicate", "2", "toronto", "part"),
        ]

    work(made, scene)


def test_the_largest_image_is_replicated_by_its_last_write() -> None:
    """Where nothing larger is left to become, the writer hears of a refusal at once."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        await shop.drafts.filling.write(draft, 0, CONTENT[:999])
        assert shop.account.calls == []
        shop.account.refusal = RefusedQuota("full")
        with pytest.raises(RefusedQuota):
            await shop.drafts.filling.write(draft, 999, CONTENT[999:])

    work(account(), scene)


def test_sizes_come_before_and_after_the_bytes() -> None:
    """Room made first, and a tail cut off last, leave an image's content."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        await shop.drafts.filling.truncate(draft, 0)
        await shop.drafts.filling.truncate(draft, 5000)
        await shop.drafts.filling.write(draft, 0, OTHER + b"tail")
        assert await shop.drafts.filling.read(draft, 599, 6) == b"otail\0"
        await shop.drafts.filling.truncate(draft, 600)
        await shop.drafts.filling.flush(draft)
        await shop.drafts.filling.truncate(draft, 600)
        with pytest.raises(ReadOnly):
            await shop.drafts.filling.truncate(draft, 0)
        assert shop.account.calls == [("replicate", "2", "toronto", "new")]

    work(account(), scene)


def test_a_file_that_is_being_prepared_may_be_closed() -> None:
    """A size and a first block are no content yet (qemu-img)."""
    content = bytes(4096) + b"x" * PREPARING_BYTES
    made = account()
    give(made, "2", content)

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        await shop.drafts.filling.truncate(draft, len(content))
        await shop.drafts.filling.write(draft, 0, bytes(4096))
        await shop.drafts.filling.flush(draft)
        await shop.drafts.filling.write(draft, 4096, content[4096:])
        await shop.drafts.filling.flush(draft)
        assert shop.account.calls == [("replicate", "2", "toronto", "new")]

    work(made, scene)


def test_writing_again_what_is_there_changes_nothing() -> None:
    """Once it is an image, the same bytes are accepted as long as the file is open, and others are not."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        await shop.drafts.filling.write(draft, 0, CONTENT)
        await shop.drafts.filling.write(draft, 100, CONTENT[100:200])
        for offset, data in ((0, b"x"), (999, b"xx"), (1000, b"x")):
            with pytest.raises(ReadOnly):
                await shop.drafts.filling.write(draft, offset, data)
        await shop.drafts.filling.flush(draft)
        assert shop.account.calls == REPLICATED

    work(account(), scene)


def test_what_was_copied_cannot_be_read_from_the_draft() -> None:
    """Its bytes are not here: never a short file, neither before the last piece nor after it."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        assert await shop.drafts.filling.read(draft, 0, 10) == b""
        for start, length in ((0, 10), (10, len(CONTENT) - 10)):
            await shop.drafts.filling.copy(draft, shop.key("1"), start, start, length)
            with pytest.raises(ImagePending):
                await shop.drafts.filling.read(draft, 0, 10)

    work(account(), scene)


def test_a_copy_onto_what_is_an_image_has_to_be_the_same() -> None:
    """``cat a b > c`` must not be told that b was copied, too."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        await shop.drafts.filling.copy(draft, shop.key("1"), 0, 0, 1000)
        assert await shop.drafts.filling.copy(draft, shop.key("1"), 900, 900, 1000) == 100
        for source, source_offset, offset in (("2", 0, 0), ("1", 0, 1000)):
            with pytest.raises(ReadOnly):
                await shop.drafts.filling.copy(draft, shop.key(source), source_offset, offset, 100)

    work(account(), scene)


async def _write_unknown(shop: Workshop) -> None:
    draft = shop.create()
    await shop.drafts.filling.write(draft, 0, b"y" * 600)
    await shop.drafts.filling.flush(draft)


async def _write_what_is_here(shop: Workshop) -> None:
    draft = shop.create()
    await shop.drafts.filling.write(draft, 0, b"c" * 300)
    await shop.drafts.filling.flush(draft)


async def _copy_what_is_here(shop: Workshop) -> None:
    await shop.drafts.filling.copy(shop.create(), shop.key("3"), 0, 0, 300)


async def _copy_a_part(shop: Workshop) -> None:
    draft = shop.create()
    await shop.drafts.filling.copy(draft, shop.key("1"), 0, 0, 999)
    await shop.drafts.filling.flush(draft)


async def _copy_and_write(shop: Workshop) -> None:
    draft = shop.create()
    await shop.drafts.filling.copy(draft, shop.key("1"), 0, 0, 999)
    await shop.drafts.filling.write(draft, 999, CONTENT[999:])


@pytest.mark.parametrize(
    "attempt", [_write_unknown, _write_what_is_here, _copy_what_is_here, _copy_a_part, _copy_and_write]
)
def test_what_is_no_image_of_another_region_leaves_nothing(
    attempt: Callable[[Workshop], Awaitable[None]],
) -> None:
    """It is refused, gone from the directory, its bytes are given back, and all that follows says the same."""

    async def scene(shop: Workshop) -> None:
        with pytest.raises(NotSupported):
            await attempt(shop)
        draft = shop.drafts.get(2)
        assert draft is not None
        for again in (
            partial(shop.drafts.filling.write, draft, 0, b"x"),
            partial(shop.drafts.filling.copy, draft, shop.key("1"), 0, 0, 1),
            partial(shop.drafts.filling.truncate, draft, 1),
            partial(shop.drafts.filling.read, draft, 0, 1),
            partial(shop.drafts.filling.flush, draft),
            partial(shop.drafts.rename, draft, "toronto", "other"),
        ):
            with pytest.raises(NotSupported):
                await again()
        assert (shop.account.calls, shop.shown) == ([], [])
        assert all(spool.closed == 1 for spool in shop.spools)
        await shop.drafts.released(draft)
        assert shop.drafts.get(2) is None

    work(account(), scene)


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (RefusedQuota("full"), RefusedQuota),
        (Unreachable("no route"), Unreachable),
        (StoreError("no journal"), StoreError),
        (Busy("moved"), Busy),
        (RefusedPermission("no"), Refused),
        (NotFound("gone"), Refused),
        (Overloaded("429"), Refused),
        (ServerFailed("503"), Refused),
        (AnswerLost("silence"), AnswerLost),
    ],
)
def test_what_the_service_refuses_leaves_nothing(refusal: Exception, told: type[Exception]) -> None:
    """The reason is told as an error that no program takes for a hint to read and write."""

    async def scene(shop: Workshop) -> None:
        shop.account.refusal = refusal
        draft = shop.create()
        with pytest.raises(told) as caught:
            await shop.drafts.filling.copy(draft, shop.key("1"), 0, 0, 1000)
        assert type(caught.value) is told
        with pytest.raises(told, match=str(refusal)):
            await shop.drafts.filling.flush(draft)
        assert shop.shown == []

    work(account(), scene)


def test_a_bug_while_settling_is_the_draft_s_and_not_the_mount_s(caplog: pytest.LogCaptureFixture) -> None:
    """The copy fails, the log has the traceback, and the other tasks live on."""

    async def scene(shop: Workshop) -> None:
        shop.account.refusal = ZeroDivisionError("bug")
        with pytest.raises(Exception, match="bug"):
            await shop.drafts.filling.copy(shop.create(), shop.key("1"), 0, 0, 1000)
        assert shop.shown == []

    work(account(), scene)
    assert any(record.exc_info for record in caplog.records)


def test_a_name_that_was_taken_meanwhile_is_not_taken_twice() -> None:
    """An image that others made under the name stays the only one."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        snapshot = shop.account.snapshot
        assert snapshot is not None
        shop.account.list_anew(*snapshot.images, image("9", "new"))
        with pytest.raises(Exists):
            await shop.drafts.filling.copy(draft, shop.key("1"), 0, 0, 1000)
        assert shop.account.calls == []

    work(account(), scene)


@pytest.mark.parametrize(("source_id", "replicated"), [("1", "1"), ("2", "2"), ("4", "1"), ("gone", "1")])
def test_of_images_with_one_content_the_one_that_was_opened_is_replicated(
    source_id: str, replicated: str
) -> None:
    """Another may be a template that cannot be; it stands in where the opened one is not what it was."""
    made = account()
    give(made, "2", CONTENT)

    async def scene(shop: Workshop) -> None:
        await shop.drafts.filling.copy(shop.create(), shop.key("1"), 0, 0, 1000, source_id=source_id)
        assert shop.account.calls == [("replicate", replicated, "toronto", "new")]

    work(made, scene)


def test_an_image_that_is_not_ready_is_not_replicated() -> None:
    """Nor is one whose content is no longer known: a copy is one of the content that was opened."""

    async def scene(shop: Workshop) -> None:
        for key in (shop.key("4"), ContentKey(1000, "0" * 32)):
            with pytest.raises(NotSupported):
                await shop.drafts.filling.copy(shop.create(), key, 0, 0, key.size_bytes)
        assert shop.account.calls == []

    work(account(), scene)


def test_a_copy_cannot_be_shifted_nor_go_on_after_what_was_written() -> None:
    """The draft lives on for what is written in place of it."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        with pytest.raises(NotSupported):
            await shop.drafts.filling.copy(draft, shop.key("1"), 0, 10, 10)
        await shop.drafts.filling.write(draft, 0, OTHER)
        with pytest.raises(NotSupported):
            await shop.drafts.filling.copy(draft, shop.key("1"), 600, 600, 10)
        await shop.drafts.filling.flush(draft)
        assert shop.account.calls == [("replicate", "2", "toronto", "new")]

    work(account(), scene)


def test_a_draft_is_found_as_it_is_called() -> None:
    """By its file name and by any other that stands for the same image name."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create("a%20b")
        assert (draft.name, shop.shown) == ("a b", ["a%20b"])
        assert shop.drafts.find("toronto", "a%20b") is shop.drafts.find("toronto", "a b") is draft
        assert shop.drafts.find("montreal", "a b") is None
        assert await shop.drafts.rename(draft, "roubaix", "c")
        assert shop.drafts.find("roubaix", "c") is draft
        assert shop.shown == []

    work(account(), scene)


def test_a_name_is_not_changed_while_the_service_is_asked() -> None:
    """Renaming and removing wait for what becomes of it; then it is the image that has to be renamed or removed."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        shop.account.answering = trio.Event()
        outcomes = []

        async def note(change: Callable[[], Awaitable[bool]]) -> None:
            outcomes.append(await change())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(shop.drafts.filling.copy, draft, shop.key("1"), 0, 0, 1000)
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.start_soon(note, partial(shop.drafts.rename, draft, "toronto", "other"))
            nursery.start_soon(note, partial(shop.drafts.remove, draft, NotFound("removed")))
            await trio.testing.wait_all_tasks_blocked(0.01)
            shop.account.answering.set()
        assert outcomes == [False, False]
        assert (draft.error, shop.account.calls) == (None, REPLICATED)

    work(account(), scene)


def test_a_name_is_not_waited_for_for_long() -> None:
    """The kernel holds the directory meanwhile."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        shop.account.answering = trio.Event()
        with trio.move_on_after(1):
            await shop.drafts.filling.copy(draft, shop.key("1"), 0, 0, 1000)
        began = trio.current_time()
        with pytest.raises(Busy):
            await shop.drafts.rename(draft, "toronto", "other")
        assert trio.current_time() - began == pytest.approx(NAMES_PATIENCE_S)
        shop.account.answering.set()
        assert not await shop.drafts.rename(draft, "toronto", "other")

    work(account(), scene)


def test_a_draft_that_is_removed_while_it_is_open() -> None:
    """Whoever fills it is told, and nothing is asked of the service."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        await shop.drafts.filling.write(draft, 0, b"x")
        assert await shop.drafts.remove(draft, NotFound("removed"))
        with pytest.raises(NotFound):
            await shop.drafts.filling.write(draft, 1, b"x")
        assert (shop.spools[0].closed, shop.shown) == (1, [])

    work(account(), scene)


@pytest.mark.parametrize("data", [b"", b"x"])
def test_what_nobody_fills_goes_a_little_later(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It stays while somebody has it open, and for a moment after; what was put into it is not lost silently."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        if data:
            await shop.drafts.filling.write(draft, 0, data)
        await shop.drafts.released(draft)
        await trio.sleep(LINGER_S / 2)
        shop.drafts.opened(draft)
        await trio.sleep(LINGER_S)
        assert shop.shown == ["new"]
        await shop.drafts.released(draft)
        await trio.sleep(LINGER_S * 2)
        assert (shop.shown, shop.drafts.get(draft.number)) == ([], None)

    work(account(), scene)
    assert bool(data) == any("is gone: No image" in record.message for record in caplog.records)


def test_a_tool_s_mtime_goes_to_the_image() -> None:
    """Programs set it before the end of the copy."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        draft.mtime_ns = 42
        await shop.drafts.filling.copy(draft, shop.key("1"), 0, 0, 1000)
        assert draft.image_id is not None
        assert shop.account.mtimes == {draft.image_id: 42}

    work(account(), scene)


def test_a_copy_within_a_region_finds_the_image_elsewhere_that_nobody_has_looked_at() -> None:
    """The details of images elsewhere are asked for before it is refused."""
    made = account()
    give(made, "3", CONTENT)
    made.known = {"3"}

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        await shop.drafts.filling.copy(draft, shop.key("3"), 0, 0, 1000)
        assert shop.account.calls == REPLICATED

    work(made, scene)


def test_an_image_without_details_is_no_candidate() -> None:
    """The others are compared nevertheless."""
    made = account()
    made.failures["1"] = Unreachable("no route")
    made.known = {"2", "3"}

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        await shop.drafts.filling.write(draft, 0, OTHER)
        await shop.drafts.filling.flush(draft)
        assert shop.account.calls == [("replicate", "2", "toronto", "new")]

    work(made, scene)


@pytest.mark.parametrize(
    ("closing", "is_verdict"),
    [
        (FakeCaller(1, 10), True),
        (FakeCaller(2, 10), True),
        (FakeCaller(1, 11), True),
        (FakeCaller(2, 11), False),
        (FakeCaller(2, None), True),
        (None, True),
    ],
)
def test_only_who_fills_a_draft_says_that_it_is_full(closing: FakeCaller | None, is_verdict: bool) -> None:
    """What a program inherits and closes is still being filled; where it cannot be told, the strict rule holds."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        await shop.drafts.filling.write(draft, 0, CONTENT[:100], FakeCaller(1, 10))
        with pytest.raises(NotSupported) if is_verdict else nullcontext():
            await shop.drafts.filling.flush(draft, closing)
        assert shop.shown == ([] if is_verdict else ["new"])

    work(account(), scene)


@pytest.mark.parametrize(("closing", "is_verdict"), [(FakeCaller(1, 10), True), (FakeCaller(2, 11), False)])
@pytest.mark.parametrize("size_bytes", [0, 2 * PREPARING_BYTES])
def test_who_creates_a_new_file_says_by_closing_it_that_it_is_complete(
    closing: FakeCaller, is_verdict: bool, size_bytes: int
) -> None:
    """A program that moves its file here removes that once it has closed the copy: also an empty or a sparse one."""
    creator = Fillers()
    creator.note(FakeCaller(0, 10))

    async def scene(shop: Workshop) -> None:
        draft = shop.create(creator=creator)
        await shop.drafts.filling.truncate(draft, size_bytes, FakeCaller(1, 10))
        await shop.drafts.filling.sync(draft)
        with pytest.raises(NotSupported) if is_verdict else nullcontext():
            await shop.drafts.filling.flush(draft, closing)

    work(account(), scene)


def test_what_is_created_and_closed_empty_can_be_filled_all_the_same() -> None:
    """A shell told to overwrite nothing (set -C) closes one of its two descriptors before anything is written."""
    creator = Fillers()
    creator.note(FakeCaller(0, 10))

    async def scene(shop: Workshop) -> None:
        draft = shop.create(creator=creator)
        with pytest.raises(NotSupported):
            await shop.drafts.filling.flush(draft, FakeCaller(1, 10))
        await shop.drafts.filling.write(draft, 0, CONTENT, FakeCaller(1, 10))
        await shop.drafts.filling.flush(draft, FakeCaller(1, 10))
        assert shop.account.calls == REPLICATED

    work(account(), scene)


class SlowSpool(MemorySpool):
    """Its MD5 takes a moment, in which a clock that jumps ahead is past every deadline."""

    def md5(self) -> str:
        time.sleep(0.2)
        return super().md5()


def test_a_large_file_is_compared_for_as_long_as_that_takes() -> None:
    """Where it was written out of order, all of it is read, which may take minutes; its image is no less replicated."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        draft.spool = SlowSpool()
        await shop.drafts.filling.write(draft, 0, OTHER)
        await shop.drafts.filling.flush(draft)
        assert shop.account.calls == [("replicate", "2", "toronto", "new")]

    work(account(), scene)


class HangingSpool(MemorySpool):
    """Its MD5 takes until it ``may_end``."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = threading.Event()

    def md5(self) -> str:
        self.may_end.wait()
        return super().md5()


def test_a_signal_ends_the_comparison_of_a_large_file() -> None:
    """Nothing comes of what was written then."""

    async def scene(shop: Workshop) -> None:
        draft = shop.create()
        draft.spool = spool = HangingSpool()
        await shop.drafts.filling.write(draft, 0, OTHER)
        with trio.move_on_after(1) as waiting:
            await shop.drafts.filling.flush(draft)
        spool.may_end.set()
        assert waiting.cancelled_caught
        assert shop.account.calls == []

    work(account(), scene)
