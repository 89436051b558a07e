"""The listing: few calls, shared by all who ask, and never lost."""

import logging
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import trio
from account_fakes import FakeListing, FakeService, FakeStoredListing, Stage, details_of, image, play

from imagefs.account import Snapshot
from imagefs.errors import MalformedAnswer, Refused, ServiceError, Unreachable

T = TypeVar("T")

AWAY = Unreachable("The service does not answer.")


def test_one_call_serves_all_regions_for_thirty_seconds() -> None:
    """Any number of readers within the lifetime cost one call, and the next one after it another."""
    stage = Stage(FakeService([image("1"), image("2", region="montreal")]))

    async def scene() -> None:
        async with stage.account() as account:
            first = await account.images()
            await trio.sleep(29)
            assert await account.images() is first
            assert stage.service.listings == 1
            await trio.sleep(1.1)
            await account.images()
            assert stage.service.listings == 2

    play(scene)


def test_a_pending_image_makes_the_listing_live_for_five_seconds() -> None:
    """While something is under way, its end is seen soon."""
    stage = Stage(FakeService([image("1", status="queued")]))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await trio.sleep(4.9)
            await account.images()
            assert stage.service.listings == 1
            stage.service.change("1", status="active")
            await trio.sleep(0.2)
            assert (await account.images()).by_id["1"].status == "active"
            await trio.sleep(20)
            await account.images()
            assert stage.service.listings == 2

    play(scene)


def test_readers_at_the_same_time_share_one_call() -> None:
    """A hundred readers of a stale listing cost one call."""
    stage = Stage(FakeService([image("1")]))

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(account.images)
        assert stage.service.listings == 1

    play(scene)


def test_cancelling_the_first_reader_leaves_the_call_to_the_others() -> None:
    """The reader whose request started the call may be killed; the others still get its answer."""
    stage = Stage(FakeService([image("1")]))
    stage.latency_s = 1
    seen: list[Snapshot] = []

    async def scene() -> None:
        async with stage.account() as account:

            async def patient() -> None:
                await trio.sleep(0.1)
                seen.append(await account.images())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(patient)
                with trio.move_on_after(0.5) as killed:
                    await account.images()
            assert killed.cancelled_caught
        assert len(seen) == 1
        assert stage.service.listings == 1

    play(scene)


def test_without_any_listing_the_failure_is_raised_and_remembered() -> None:
    """The first reader hears of the failure; the next ones at once, without a call of their own."""
    stage = Stage(FakeService(listing_failure=AWAY))
    stage.failure_latency_s = 30

    async def scene() -> None:
        async with stage.account() as account:
            with pytest.raises(Unreachable, match="does not answer"):
                await account.images()
            began = trio.current_time()
            for _ in range(50):
                with pytest.raises(Unreachable, match="does not answer"):
                    await account.images()
            assert trio.current_time() == began
            assert stage.service.listings == 1
            assert account.snapshot is None

    play(scene)


def test_an_unreachable_service_leaves_the_last_listing(caplog: pytest.LogCaptureFixture) -> None:
    """The old listing serves at once while the service is tried in the background, ever more rarely."""
    stage = Stage(FakeService([image("1")]))

    async def scene() -> None:
        async with stage.account() as account:
            good = await account.images()
            stage.service.listing_failure = AWAY
            await trio.sleep(31)
            assert await account.images() is good
            for _ in range(600):
                assert await account.images() is good
                await trio.sleep(1)
            assert 10 <= stage.service.listings <= 25
            assert [record.getMessage() for record in caplog.records] == [
                "The images cannot be listed, and the last listing serves on: The service does not answer."
            ]
            stage.service.listing_failure = None
            stage.service.rows.append(image("2"))
            await trio.sleep(61)
            calls = stage.service.listings
            assert "2" in (await account.images()).by_id
            await trio.sleep(300)
            assert stage.service.listings - calls <= 1

    with caplog.at_level(logging.WARNING):
        play(scene)


def test_a_service_that_hangs_does_not_hang_ls() -> None:
    """A reader waits five seconds for a refresh; those who come later in the same call don't wait again."""
    stage = Stage(FakeService([image("1")]))

    async def scene() -> None:
        async with stage.account() as account:
            good = await account.images()
            stage.latency_s = 29
            await trio.sleep(31)
            began = trio.current_time()
            assert await account.images() is good
            assert trio.current_time() - began == pytest.approx(5)
            for _ in range(20):
                assert await account.images() is good
            assert trio.current_time() - began == pytest.approx(5)
            await trio.sleep(25)
            assert await account.images() is not good
            assert stage.service.listings == 2

    play(scene)


def test_a_forced_refresh_never_gets_an_answer_asked_for_earlier() -> None:
    """What the account was changed to is in the listing that a refresh afterwards returns."""
    stage = Stage(FakeService([image("1")]))
    stage.latency_s = 1
    seen: list[Snapshot] = []

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:

            async def refresh() -> None:
                seen.append(await account.refresh())

            nursery.start_soon(account.images)
            await trio.sleep(0.5)
            stage.service.rows.append(image("2"))
            nursery.start_soon(refresh)
            nursery.start_soon(refresh)
        assert [sorted(listing.by_id) for listing in seen] == [["1", "2"], ["1", "2"]]
        assert stage.service.listings == 2

    play(scene)


def test_a_forced_refresh_raises_where_the_service_is_away() -> None:
    """One who settles a lost answer by listing must know that there was no listing."""
    stage = Stage(FakeService([image("1")]))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            stage.service.listing_failure = AWAY
            with pytest.raises(Unreachable):
                await account.refresh()
            assert account.snapshot is not None

    play(scene)


def test_the_listing_of_an_earlier_mount_serves_until_the_service_answers() -> None:
    """Opening costs no call; the first reader asks, and gets the old listing where that fails."""
    stage = Stage(FakeService(listing_failure=AWAY))
    stage.index.listing = FakeStoredListing((image("1"),), fetched_ns=5)

    async def scene() -> None:
        async with stage.account() as account:
            assert stage.service.listings == 0
            listing = await account.images()
            assert (listing.images, listing.fetched_ns) == ((image("1"),), 5)
            assert stage.service.listings == 1

    play(scene)


def test_subscribers_hear_of_changes_only(caplog: pytest.LogCaptureFixture) -> None:
    """An unchanged listing is no news, and a subscriber with a bug takes nothing away from the others."""
    stage = Stage(FakeService([image("1")]))
    heard: list[tuple[list[str], list[str]]] = []

    def broken(_old: Snapshot, _new: Snapshot) -> None:
        raise ZeroDivisionError

    async def scene() -> None:
        async with stage.account() as account:
            account.subscribe(on_change=broken)
            account.subscribe(on_change=lambda old, new: heard.append((list(old.by_id), list(new.by_id))))
            await account.refresh()
            await account.refresh()
            stage.service.rows.append(image("2"))
            await account.refresh()

    play(scene)
    assert heard == [([], ["1"]), (["1"], ["1", "2"])]
    assert "ZeroDivisionError" in caplog.text


def test_rows_that_make_no_sense_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The other images are shown; the log names the first bad rows and counts the rest."""
    stage = Stage(FakeService([image("1")], problems=tuple(f"Row {n} has no id." for n in range(12))))

    async def scene() -> None:
        async with stage.account() as account:
            assert list((await account.refresh()).by_id) == ["1"]
            assert len((await account.refresh()).problems) == 12

    play(scene)
    assert len(caplog.records) == 11
    assert caplog.messages[-1] == "The listing has 2 more such rows."


def test_a_bug_below_reaches_the_reader_and_is_not_kept() -> None:
    """An unexpected exception is a failure like any other, with its traceback, and is tried anew."""
    stage = Stage(FakeService(listing_failure=ZeroDivisionError()))

    async def scene() -> None:
        async with stage.account() as account:
            with pytest.raises(ServiceError, match="ZeroDivisionError") as caught:
                await account.images()
            frames = traceback.extract_tb(
                caught.value.__cause__.__traceback__ if caught.value.__cause__ else None
            )
            assert "list_images" in [frame.name for frame in frames]
            stage.service.listing_failure = None
            await trio.sleep(2)
            await account.images()

    play(scene)


def test_asking_an_account_that_is_not_served_is_an_error() -> None:
    """A reader would otherwise wait for ever."""
    stage = Stage(FakeService([image("1")]))

    async def scene() -> None:
        async with stage.account() as account:
            pass
        for _ in range(2):
            with pytest.raises(RuntimeError, match="serve"):
                await account.images()

    play(scene)


class UninterruptedStage(Stage):
    """Calls end although who made them was cancelled meanwhile."""

    async def run_sync(self, sync_fn: Callable[..., T], *args: Any, **options: Any) -> T:
        with trio.CancelScope(shield=True):
            return await super().run_sync(sync_fn, *args, **options)


def test_a_call_that_fails_as_the_account_ends_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    """What is begun then, such as trying again later, ends with the rest."""
    stage = UninterruptedStage(FakeService([image("1")]))

    async def scene() -> None:
        async def reader() -> None:
            with pytest.raises(Unreachable):
                await account.refresh()

        async with trio.open_nursery() as nursery, stage.account() as account:
            await account.images()
            await trio.sleep(5)  # so that nothing has to be written at the end
            stage.service.listing_failure = AWAY
            nursery.start_soon(reader)
            await trio.sleep(stage.failure_latency_s / 2)

    play(scene)
    assert "Account.serve" not in caplog.text


def test_readers_are_released_when_the_account_ends() -> None:
    """One who waits outside the serving task gets an error instead of waiting for ever."""
    stage = Stage(FakeService([image("1")]))
    stage.latency_s = 20

    async def scene() -> None:
        async def reader() -> None:
            with pytest.raises(Unreachable, match="given up"):
                await account.images()

        async with trio.open_nursery() as nursery, stage.account() as account:
            nursery.start_soon(reader)
            await trio.sleep(1)

    play(scene)


class Void(FakeService):
    """Where it is ``void``, its listings are empty."""

    void = False

    def listing(self) -> FakeListing:
        return FakeListing(()) if self.void else super().listing()


@pytest.mark.parametrize("gone", [False, True, "deleted", "deleting"])
def test_an_empty_listing_is_believed_where_nothing_contradicts_it(gone: bool | str) -> None:
    """A service may be hardly awake yet: those that were listed are asked about before they disappear."""

    service = Void([image("1"), image("2")])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            service.void = True
            if isinstance(gone, str):
                service.details = {
                    row.image_id: replace(details_of(row), status=gone) for row in service.rows
                }
            if gone:
                service.rows = []
                assert (await account.refresh()).images == ()
                assert sum(filter(None, service.deadlines_s)) <= 30
            else:
                with pytest.raises(MalformedAnswer, match="1 is there"):
                    await account.refresh()
                await trio.sleep(100)
                assert len((await account.images()).images) == 2
                await trio.sleep(700)
                assert (await account.images()).images == ()

    play(scene)


@pytest.mark.parametrize("own", ["1", "20"])
def test_templates_whose_details_are_refused_do_not_hide_an_image_that_is_there(own: str) -> None:
    """There may be dozens of them, before the account's own images or after."""

    service = Void([image(str(number)) for number in range(1, 21)])
    service.failures = {row.image_id: Refused("no") for row in service.rows if row.image_id != own}

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            service.void = True
            with pytest.raises(MalformedAnswer, match=f"{own} is there"):
                await account.refresh()

    play(scene)


def test_listings_that_made_no_sense_do_not_count_for_an_empty_one() -> None:
    """A service that comes back after a long outage may be hardly awake yet."""

    service = Void([image("1")])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            service.listing_failure = MalformedAnswer("a web page")
            with pytest.raises(MalformedAnswer, match="web page"):
                await account.refresh()
            await trio.sleep(700)
            service.listing_failure, service.void = None, True
            with pytest.raises(MalformedAnswer, match="1 is there"):
                await account.refresh()

    play(scene)


def test_a_first_listing_of_nothing_is_an_empty_account() -> None:
    """There is nothing yet that could disappear."""

    service = Void([image("1")])
    service.void = True

    async def scene() -> None:
        async with Stage(service).account() as account:
            assert (await account.images()).images == ()

    play(scene)
