"""The control file: lines that are written to it, and what it shows."""

from __future__ import annotations

import gc
import itertools
import os
from types import FrameType

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from vfs_fakes import FakeCaller, Grove, image, play

from imagefs.core.inodes import control_inode
from imagefs.errors import (
    Exists,
    ImageFailed,
    ImagefsError,
    InvalidArgument,
    NotFound,
    NotPermitted,
    ReadOnly,
    RefusedQuota,
)
from imagefs.vfs import control
from imagefs.vfs.control import MAX_LINE_BYTES, RECENT, ControlHandle

URL = "https://example.org/a.iso"
FETCHED = ("fetch", URL, "toronto", "a.iso", "iso")

LINES = b"""
# a comment
https://u:p@example.org/a.iso?token=1
https://example.org/b name=c format=qcow2
"""
CALLS = [FETCHED, ("fetch", "https://example.org/b", "toronto", "c", "qcow2")]


async def _opened(grove: Grove) -> int:
    inode = await grove.find(b"toronto", b".fetch")
    return (await grove.tree.open(inode, os.O_WRONLY | os.O_TRUNC)).handle


async def _shown(grove: Grove) -> str:
    opened = await grove.tree.open(await grove.find(b"toronto", b".fetch"), os.O_RDONLY)
    assert opened.direct
    return bytes(await grove.files.read(opened.handle, 0, 1 << 20)).decode()


@given(st.lists(st.integers(0, len(LINES)), max_size=8))
def test_lines_are_carried_out_however_they_are_cut(cuts: list[int]) -> None:
    """Each request is made once, by the write that completes its line."""

    async def scene() -> None:
        grove = Grove()
        handle = await _opened(grove)
        edges = [0, *sorted(cuts), len(LINES)]
        for start, end in itertools.pairwise(edges):
            assert await grove.files.write(handle, start, LINES[start:end]) == end - start
            assert len(grove.account.calls) == sum(
                LINES[:end].count(line) for line in (b"token=1\n", b"qcow2\n")
            )
        await grove.files.flush(handle)
        assert grove.account.calls == CALLS

    play(scene)


def test_the_last_line_needs_no_newline() -> None:
    """Closing carries it out, once; an empty close does nothing."""

    async def scene() -> None:
        grove = Grove()
        handle = await _opened(grove)
        await grove.files.flush(handle)
        await grove.files.write(handle, 0, URL.encode())
        assert grove.account.calls == []
        await grove.files.flush(handle)
        await grove.files.flush(handle)
        assert grove.account.calls == [FETCHED]

    play(scene)


def test_only_who_writes_says_by_closing_that_a_line_is_complete() -> None:
    """A program that is started while a line is written closes the file as well, and knows nothing of it."""

    async def scene() -> None:
        grove = Grove()
        handle = await _opened(grove)
        shell, started = FakeCaller(1, 10), FakeCaller(2, 11)
        await grove.files.write(handle, 0, URL.encode(), shell)
        await grove.files.flush(handle, started)
        assert grove.account.calls == []
        await grove.files.write(handle, 0, b" name=b.iso", shell)
        await grove.files.flush(handle, shell)
        assert grove.account.calls == [("fetch", URL, "toronto", "b.iso", "iso")]

    play(scene)


@pytest.mark.parametrize(
    "bad", [b"nonsense\n", b"\xff\n", b"file:///etc/passwd name=a.iso\n", URL.encode() + b" x=1\n"]
)
def test_a_bad_line_is_the_writer_s_error(bad: bytes) -> None:
    """The lines before it stand, those after it are dropped, and the next write begins anew."""

    async def scene() -> None:
        grove = Grove()
        handle = await _opened(grove)
        good = URL.encode() + b"\n"
        with pytest.raises(InvalidArgument):
            await grove.files.write(handle, 0, good + bad + good)
        assert grove.account.calls == [FETCHED]
        await grove.files.write(handle, 0, good)
        assert grove.account.calls == [FETCHED, FETCHED]

    play(scene)


@pytest.mark.parametrize("line", [URL.encode() + b"\n", b"nonsense\n"])
def test_what_is_shown_of_a_failed_request_holds_nothing_else(line: bytes) -> None:
    """The frames of its traceback would keep the listing of that time, and all else that the call worked on."""

    async def scene() -> None:
        grove = Grove()
        grove.account.refusal = NotFound("no such source")
        handle = await _opened(grove)
        with pytest.raises(ImagefsError):
            await grove.files.write(handle, 0, line)
        grove.account.refusal = None
        gc.collect()
        frames = [each for each in gc.get_objects() if isinstance(each, FrameType)]
        assert not [frame for frame in frames if frame.f_code.co_filename == control.__file__]

    play(scene)


def test_a_line_without_end_is_refused() -> None:
    """What is kept of an incomplete line has a limit."""

    async def scene() -> None:
        grove = Grove()
        handle = await _opened(grove)
        with pytest.raises(InvalidArgument):
            await grove.files.write(handle, 0, b"x" * (MAX_LINE_BYTES + 1))
        await grove.files.flush(handle)
        assert grove.account.calls == []

    play(scene)


def test_it_shows_its_use_and_the_requests_without_secrets() -> None:
    """Ids, states, names and errors, the latest last, without credentials and queries."""

    async def scene() -> None:
        grove = Grove()
        handle = await _opened(grove)
        await grove.files.write(handle, 0, LINES)
        grove.account.list_anew(image("f1", "a.iso"))
        grove.account.refusal = RefusedQuota("full\n\x1b[31m")
        with pytest.raises(RefusedQuota):
            await grove.files.write(handle, 0, b"https://example.org/d.iso\n")
        shown = await _shown(grove)
        first, second, third = shown.splitlines()[-3:]
        assert first.split() == ["#", "1970-01-01T00:00:05Z", "f1", "active", "a.iso", f"({URL})"]
        assert second.split()[2:5] == ["f2", "gone", "c"]
        assert "refused" in third
        assert third.endswith(r"full\n\x1b[31m")
        assert "token" not in shown
        assert "u:p" not in shown

    play(scene)


def test_writing_back_what_was_read_does_nothing() -> None:
    """So that a whole region can be copied, its control file included."""

    async def scene() -> None:
        grove = Grove()
        handle = await _opened(grove)
        for _ in range(RECENT + 5):
            await grove.files.write(handle, 0, URL.encode() + b"\n")
        shown = await _shown(grove)
        assert shown.count(URL) == RECENT
        made = len(grove.account.calls)
        await grove.files.write(await _opened(grove), 0, shown.encode())
        assert len(grove.account.calls) == made
        inode = await grove.find(b"toronto", b".fetch")
        assert (await grove.tree.attributes(inode)).size_bytes == len(shown.encode())

    play(scene)


def test_no_text_of_the_service_becomes_a_line() -> None:
    """Neither a region's name nor a state brings in a line that would be carried out when it is written back."""

    async def scene() -> None:
        region = "a\nhttps://example.org/evil.iso\x1b[2J"
        grove = Grove(image("1", "a", region))
        handle = ControlHandle(region, b"")
        await grove.controls.write(handle, URL.encode() + b"\n")
        grove.account.list_anew(image("f1", "a.iso", region, status="b\nhttps://example.org/worse.iso\x1b"))
        shown = grove.controls.text(region).decode()
        assert "evil" not in shown
        assert "worse" in shown
        assert all(line.startswith("#") for line in shown.splitlines())
        assert "\x1b" not in shown
        made = len(grove.account.calls)
        await grove.controls.write(handle, shown.encode())
        assert len(grove.account.calls) == made

    play(scene)


def test_fsync_waits_for_what_was_written_through_the_handle() -> None:
    """And says so where it failed; other handles wait for nothing."""

    async def scene() -> None:
        grove = Grove()
        one, other = await _opened(grove), await _opened(grove)
        await grove.files.write(one, 0, URL.encode())
        await grove.files.sync(one)
        assert grove.account.calls == [FETCHED, ("wait_active", "f1")]
        await grove.files.sync(other)
        assert len(grove.account.calls) == 2
        grove.account.refusal = ImageFailed("killed")
        with pytest.raises(ImageFailed):
            await grove.files.sync(one)

    play(scene)


def test_two_writes_at_once_carry_each_line_out_once() -> None:
    """While one waits for the service, the other finds only what is left."""

    async def scene() -> None:
        grove = Grove()
        handle = ControlHandle("toronto", b"")
        grove.account.answering = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(grove.controls.write, handle, LINES)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(grove.controls.write, handle, b"")
            nursery.start_soon(grove.controls.flush, handle)
            await trio.testing.wait_all_tasks_blocked()
            grove.account.answering.set()
        assert sorted(grove.account.calls) == sorted(CALLS)

    play(scene)


async def _written_and_interrupted(grove: Grove, handle: int) -> None:
    """LINES are written, and a signal ends that while the service is asked for the first."""
    grove.account.answering = trio.Event()
    with trio.move_on_after(1) as waiting:
        await grove.files.write(handle, 0, LINES)
    assert waiting.cancelled_caught
    assert grove.account.calls == CALLS[:1]


@pytest.mark.parametrize("is_answered_before", [True, False])
def test_a_write_that_is_sent_again_after_a_signal_asks_once(is_answered_before: bool) -> None:
    """Each line is carried out once, in whatever order the answer and the program come back."""

    async def scene() -> None:
        grove = Grove()
        handle = await _opened(grove)
        await _written_and_interrupted(grove, handle)
        await grove.files.flush(await _opened(grove))  # another handle's
        async with trio.open_nursery() as nursery:
            if is_answered_before:
                grove.account.answering.set()
                await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.start_soon(grove.files.write, handle, 0, LINES)
            await trio.testing.wait_all_tasks_blocked(0.01)
            grove.account.answering.set()
        await grove.files.sync(handle)
        assert grove.account.calls == [*CALLS, ("wait_active", "f1"), ("wait_active", "f2")]
        assert (await _shown(grove)).count(URL) == 1

    play(scene)


def test_a_refusal_that_came_after_a_signal_is_told_to_who_comes_back() -> None:
    """What nobody was told is the answer to the write that is sent again; what is left is dropped."""

    async def scene() -> None:
        grove = Grove()
        handle = await _opened(grove)
        await _written_and_interrupted(grove, handle)
        grove.account.refusal = RefusedQuota("full")
        grove.account.answering.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(RefusedQuota):
            await grove.files.write(handle, 0, LINES)
        await grove.files.flush(handle)
        assert grove.account.calls == CALLS[:1]

    play(scene)


@pytest.mark.parametrize("data", [b"", b"https://example.org/d.iso\n"])
def test_who_does_not_come_back_after_a_signal_has_given_the_rest_up(data: bytes) -> None:
    """Neither by closing nor by writing something else does a program ask for it."""

    async def scene() -> None:
        grove = Grove()
        handle = await _opened(grove)
        await _written_and_interrupted(grove, handle)
        grove.account.answering.set()
        await grove.files.write(handle, 0, data)
        await grove.files.flush(handle)
        assert [call[3] for call in grove.account.calls] == ["a.iso", "d.iso"][: 1 + bool(data)]

    play(scene)


def test_a_bug_in_a_request_is_the_writer_s_and_not_the_mount_s(caplog: pytest.LogCaptureFixture) -> None:
    """The write fails, the log has the traceback, and the other tasks live on."""

    async def scene() -> None:
        grove = Grove()
        grove.account.refusal = ZeroDivisionError("bug")
        with pytest.raises(ImagefsError, match="bug"):
            await grove.files.write(await _opened(grove), 0, LINES)

    play(scene)
    assert any(record.exc_info for record in caplog.records)


def test_the_control_file_stays_what_it_is() -> None:
    """It cannot be removed, renamed, replaced or made executable; other attributes are accepted."""

    async def scene() -> None:
        grove = Grove(image("1", "a"))
        toronto = await grove.find(b"toronto")
        inode = await grove.find(b"toronto", b".fetch")
        assert (await grove.tree.attributes(inode)).inode == control_inode("toronto")
        for refused in (
            grove.tree.changes.unlink(toronto, b".fetch"),
            grove.tree.changes.rename(toronto, b".fetch", toronto, b"x", exchange=False),
            grove.tree.changes.rename(toronto, b"a", toronto, b".fetch", exchange=False),
            grove.tree.set_attributes(inode, mode=0o755, mtime_ns=None),
        ):
            with pytest.raises(NotPermitted):
                await refused
        with pytest.raises(Exists):
            await grove.tree.changes.create(toronto, b".fetch")
        await grove.tree.set_attributes(inode, mode=0o600, mtime_ns=1)
        await grove.tree.truncate(inode, 0)
        assert grove.account.calls == []
        frozen = Grove(read_only=True)
        with pytest.raises(ReadOnly):
            await _opened(frozen)
        assert "Write source URLs" in await _shown(frozen)

    play(scene)


def test_each_who_looks_it_up_has_a_file_of_its_own() -> None:
    """To the kernel, which lets one write at a time; for stat(2) it is one and the same, and none stays behind."""
    grove = Grove()

    async def scene() -> None:
        region = await grove.find(b"toronto")
        found = [await grove.tree.lookup(region, b".fetch") for _ in range(3)]
        assert len({each.edition for each in found} | {control_inode("toronto")}) == 4
        assert {(each.inode, each.entry_ttl_s) for each in found} == {(control_inode("toronto"), 0.0)}
        for each in found:
            assert (await grove.tree.attributes(each.edition)).inode == control_inode("toronto")
            grove.tree.forget(each.edition, 1)
            with pytest.raises(NotFound):
                await grove.tree.attributes(each.edition)

    play(scene)
