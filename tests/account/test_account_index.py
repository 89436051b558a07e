"""What outlives a mount: written in few transactions, and never in the way."""

from pathlib import Path

import pytest
import trio
from account_fakes import FakeIndex, FakeService, Stage, details_of, image, play
from stored_files import stored_account

from imagefs.account import Account
from imagefs.account.stored_account import StoredAccount
from imagefs.errors import CacheUnusable


def test_many_details_are_written_in_few_transactions() -> None:
    """A prefetch of a thousand images must not cost a thousand syncs of the disk."""
    stage = Stage(FakeService([image(str(n)) for n in range(1000)]))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            account.prefetch_details("toronto")
            await trio.sleep(10)
            assert len(stage.index.details) == 1000
            assert stage.index.calls["save_details"] < 10

    play(scene)


def test_the_next_mount_needs_no_calls_for_details() -> None:
    """They come from the index, as does the listing."""
    service, index = FakeService([image("1")]), FakeIndex()

    async def first_mount() -> None:
        async with Stage(service, index).account() as account:
            await account.images()
            await account.details("1")

    async def second_mount() -> None:
        async with Stage(service, index).account() as account:
            assert account.snapshot is not None
            assert account.snapshot.images == (image("1"),)
            assert account.known_details("1") == details_of(image("1"))

    play(first_mount)
    play(second_mount)
    assert (service.listings, service.asked) == (1, ["1"])


def test_kept_details_follow_the_kept_listing() -> None:
    """After a crash between two writes: a newer listing wins over the details beside it."""
    index = FakeIndex()
    index.details = {
        "1": details_of(image("1", "old")),
        "2": details_of(image("2")),
        "3": details_of(image("3")),
        "4": details_of(image("4", status="queued")),
    }
    index.save_listing((image("1", "new"), image("2", status="killed"), image("4")), 5)

    async def scene() -> None:
        async with Stage(FakeService(), index).account() as account:
            known = account.known_details("1")
            assert known is not None
            assert known.name == "new"
            assert account.known_details("2") is None
            assert account.known_details("3") is None
            assert account.known_details("4") is None

    play(scene)
    assert list(index.details) == ["1", "4"]


def test_what_is_left_is_written_at_the_end() -> None:
    """An unmount right after a change keeps it."""
    stage = Stage(FakeService([image("1")]))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.details("1")
            await account.set_mtime("1", 9)
        assert list(stage.index.details) == ["1"]
        assert stage.index.mtimes == {"1": 9}
        assert stage.index.listing is not None

    play(scene)


def test_an_unchanged_listing_is_not_written_again() -> None:
    """A mount at rest leaves the disk alone."""
    stage = Stage(FakeService([image("1")]))

    async def scene() -> None:
        async with stage.account() as account:
            for _ in range(5):
                await account.refresh()
                await trio.sleep(2)
            assert stage.index.calls["save_listing"] == 1

    play(scene)


def test_a_failing_index_is_reported_once_and_does_without(caplog: pytest.LogCaptureFixture) -> None:
    """Everything works from memory, and writing is tried again with the next change."""
    stage = Stage(FakeService([image("1"), image("2"), image("3")]))
    stage.index.failure = CacheUnusable("The disk fails.")

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            for image_id in ("1", "2"):
                await account.details(image_id)
                await trio.sleep(3)
            assert caplog.messages == [
                "What was known of the account cannot be read from disk: The disk fails.",
                "The account's listing and details are not kept on disk: The disk fails.",
            ]
            stage.index.failure = None
            await account.set_mtime("3", 1)
            await trio.sleep(1)
            assert stage.index.mtimes == {"3": 1}

    play(scene)


def test_a_bug_in_the_index_does_not_end_the_account(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback; readers go on."""

    class BuggyIndex(FakeIndex):
        def save_listing(self, *_: object) -> None:
            raise ZeroDivisionError

    stage = Stage(FakeService([image("1")]), BuggyIndex())

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await trio.sleep(2)
            await account.details("1")
            await trio.sleep(2)

    play(scene)
    assert "ZeroDivisionError" in caplog.text
    assert list(stage.index.details) == ["1"]


def test_real_threads_and_a_real_index_work_together(tmp_path: Path) -> None:
    """The account as the application builds it: worker threads, real time, the SQLite index."""
    path = tmp_path / "index"
    path.touch(mode=0o600)
    service = FakeService([image("1", "\ud800 odd"), image("2", region="montreal", status="queued")])

    async def mount(stored: StoredAccount, calls_expected: int) -> None:
        account = Account(service, stored)
        await account.open()
        async with trio.open_nursery() as nursery:
            await nursery.start(account.serve)
            if account.snapshot is None:
                await account.images()
            details = await account.details("1")
            await account.set_mtime("1", 2**70)
            nursery.cancel_scope.cancel()
        assert details == details_of(service.rows[0])
        assert account.snapshot is not None
        assert account.snapshot.images == tuple(service.rows)
        assert account.local_mtime("1") == 2**70
        assert (service.listings, len(service.asked)) == (calls_expected, calls_expected)

    for _ in range(2):
        with stored_account(path) as stored:
            trio.run(mount, stored, 1)
