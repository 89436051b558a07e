"""Details: kept for good while an image is active, shared by all who ask, in step with the listing."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio
from account_fakes import CHECKSUM, FakeService, Stage, details_of, image, play

from imagefs.account import Account
from imagefs.core.models import ImageDetails, Phase
from imagefs.errors import MalformedAnswer, RefusedUnknownImage, ServiceError, Unreachable

AWAY = Unreachable("The service does not answer.")


def play_with(stage: Stage, scene: Callable[[Account], Awaitable[None]]) -> None:
    """Run *scene* on an account that has been listed."""

    async def main() -> None:
        async with stage.account() as account:
            await account.images()
            await scene(account)

    play(main)


def test_an_active_image_is_asked_for_once() -> None:
    """Its details don't change, so an hour later they are still known without a call."""
    stage = Stage(FakeService([image("1")]))

    async def scene(account: Account) -> None:
        assert account.known_details("1") is None
        details = await account.details("1")
        await trio.sleep(3600)
        assert await account.details("1") is details
        assert account.known_details("1") is details
        assert stage.service.asked == ["1"]

    play_with(stage, scene)


def test_details_of_a_pending_image_live_for_five_seconds() -> None:
    """They may lack a size, and are asked for again until the image is active."""
    stage = Stage(FakeService([image("1", status="queued")]))

    async def scene(account: Account) -> None:
        assert (await account.details("1")).size_bytes is None
        await trio.sleep(4)
        assert account.known_details("1") is not None
        await trio.sleep(1.1)
        assert account.known_details("1") is None
        await account.details("1")
        assert stage.service.asked == ["1", "1"]

    play_with(stage, scene)


def test_details_are_read_anew_once_the_listing_says_active() -> None:
    """What was known while the image was pending is not passed off as an active image's."""
    stage = Stage(FakeService([image("1", status="queued")]))

    async def scene(account: Account) -> None:
        await account.details("1")
        stage.service.change("1", status="active")
        await account.refresh()
        assert account.known_details("1") is None
        details = await account.details("1")
        assert (details.phase, details.size_bytes, details.checksum) == (Phase.ACTIVE, 1000, CHECKSUM)

    play_with(stage, scene)


def test_details_that_lag_behind_the_listing_never_look_active() -> None:
    """A row says active, details still say queued: there must be no active image without a size."""
    stage = Stage(FakeService([image("1")]))
    stage.service.details["1"] = details_of(image("1", status="queued"))

    async def scene(account: Account) -> None:
        assert (await account.details("1")).phase is Phase.PENDING
        del stage.service.details["1"]
        await trio.sleep(5.1)
        assert (await account.details("1")).phase is Phase.ACTIVE

    play_with(stage, scene)


def test_details_ahead_of_the_listing_wait_for_it() -> None:
    """The listing's status wins: the image turns active for the whole tree at one moment."""
    stage = Stage(FakeService([image("1", status="saving")]))
    stage.service.details["1"] = details_of(image("1"))

    async def scene(account: Account) -> None:
        assert (await account.details("1")).status == "saving"
        stage.service.change("1", status="active")
        await account.refresh()
        assert (await account.details("1")).status == "active"

    play_with(stage, scene)


def test_a_renamed_image_keeps_its_details_under_the_new_name() -> None:
    """Name, region and status are the listing's, in the fields as well; no call is needed for that."""
    stage = Stage(FakeService([image("1", "old.iso")]))

    async def scene(account: Account) -> None:
        await account.details("1")
        stage.service.change("1", name="new.iso")
        await account.refresh()
        details = account.known_details("1")
        assert details is not None
        assert (details.name, dict(details.fields)["name"]) == ("new.iso", "new.iso")
        assert dict(details.fields)["disk_format"] == "iso"
        assert stage.service.asked == ["1"]

    play_with(stage, scene)
    assert stage.index.details["1"].name == "new.iso"


def test_another_status_drops_the_details() -> None:
    """An image that stops being active is asked about anew, and so is one that is active again."""
    stage = Stage(FakeService([image("1")]))
    heard: list[tuple[ImageDetails, ImageDetails]] = []

    async def scene(account: Account) -> None:
        account.subscribe(on_details_change=lambda old, new: heard.append((old, new)))
        await account.details("1")
        stage.service.change("1", status="saving")
        await account.refresh()
        assert account.known_details("1") is None
        stage.service.change("1", status="active")
        await account.refresh()
        await account.details("1")
        assert stage.service.asked == ["1", "1"]
        assert heard == []

    play_with(stage, scene)


@pytest.mark.parametrize("by_status", [True, False])
def test_new_content_of_an_active_image_is_announced(by_status: bool) -> None:
    """Whether it went through another status or not: subscribers get the old and the new details."""
    stage = Stage(FakeService([image("1")]))
    heard: list[tuple[str | None, str | None]] = []

    async def scene(account: Account) -> None:
        account.subscribe(on_details_change=lambda old, new: heard.append((old.checksum, new.checksum)))
        await account.details("1")
        stage.service.details["1"] = replace(details_of(image("1")), checksum="f" * 32)
        if by_status:
            stage.service.change("1", status="saving")
            await account.refresh()
            stage.service.change("1", status="active")
            await account.refresh()
            await account.details("1")
        else:
            account.doubt_details("1")
            account.doubt_details("1")
            await trio.sleep(1)
            assert stage.service.asked == ["1", "1"]
        known = account.known_details("1")
        assert known is not None
        assert known.checksum == "f" * 32

    play_with(stage, scene)
    assert heard == [(CHECKSUM, "f" * 32)]
    assert stage.index.details["1"].checksum == "f" * 32


def test_an_answer_that_makes_no_sense_is_no_new_content() -> None:
    """What is known stays, and so does the reason for asking again: that the content is not like it."""
    stage = Stage(FakeService([image("1")]))
    heard: list[tuple[ImageDetails, ImageDetails]] = []

    async def scene(account: Account) -> None:
        account.subscribe(on_details_change=lambda old, new: heard.append((old, new)))
        good = await account.details("1")
        account.note_error("1", "The MD5 differs.")
        for answer in (
            replace(good, size_bytes=None, problem="The size is negative."),
            replace(good, size_bytes=None, status="saving"),
            good,
        ):
            stage.service.details["1"] = answer
            account.doubt_details("1")
            await trio.sleep(1)
        stage.service.failures["1"] = AWAY
        account.doubt_details("1")
        await trio.sleep(1)
        assert len(stage.service.asked) == 5
        assert account.known_details("1") is good
        assert account.error_of("1") == "The MD5 differs."
        assert heard == []

    play_with(stage, scene)
    assert list(stage.index.details) == ["1"]


def test_nothing_is_kept_of_an_image_that_vanished_while_it_was_not_active() -> None:
    """Should its id be listed again, its content is no news."""
    stage = Stage(FakeService([image("1")]))
    heard: list[tuple[ImageDetails, ImageDetails]] = []

    async def scene(account: Account) -> None:
        account.subscribe(on_details_change=lambda old, new: heard.append((old, new)))
        await account.details("1")
        stage.service.change("1", status="saving")
        await account.refresh()
        stage.service.rows = []
        await account.refresh()
        stage.service.rows = [image("1")]
        stage.service.details["1"] = replace(details_of(image("1")), size_bytes=5)
        await account.refresh()
        await account.details("1")
        assert heard == []

    play_with(stage, scene)


def test_details_of_vanished_images_are_forgotten() -> None:
    """In memory and in the index, once a listing without bad rows doesn't have the image."""
    stage = Stage(FakeService([image("1"), image("2"), image("3")]))

    async def scene(account: Account) -> None:
        await account.details("1")
        await account.details("2")
        stage.service.rows = [image("2"), image("3")]
        stage.service.problems = ("Row 1 has no region.",)
        await account.refresh()
        assert account.known_details("1") is not None
        stage.service.rows = [image("2")]
        stage.service.problems = ()
        await account.refresh()
        assert account.known_details("1") is None
        assert account.known_details("2") is not None

    play_with(stage, scene)
    assert list(stage.index.details) == ["2"]


def test_a_row_that_never_makes_sense_does_not_keep_what_is_gone() -> None:
    """It can stand for one image, and not for all that ever were there."""
    rows = [image(str(number)) for number in range(5)]
    stage = Stage(FakeService(rows, problems=("Row 6 has no region.",)))

    async def scene(account: Account) -> None:
        for row in rows:
            await account.details(row.image_id)
        stage.service.rows = rows[:1]
        await account.refresh()
        assert [row.image_id for row in rows if account.known_details(row.image_id)] == ["0"]

    play_with(stage, scene)
    assert list(stage.index.details) == ["0"]


def test_the_asked_id_is_trusted_over_the_answer() -> None:
    """An answer that names another image must not end up under that image's id."""
    stage = Stage(FakeService([image("1"), image("2")]))
    stage.service.details["1"] = details_of(image("2"))

    async def scene(account: Account) -> None:
        assert (await account.details("1")).image_id == "1"
        assert account.known_details("2") is None

    play_with(stage, scene)


def test_an_image_that_is_not_listed_yet_has_details() -> None:
    """A replica just asked for is known by its id before any listing shows it."""
    stage = Stage(FakeService([image("1")]))
    stage.service.details["9"] = details_of(image("9", status="queued"))

    async def scene(account: Account) -> None:
        assert (await account.details("9")).status == "queued"

    play_with(stage, scene)


def test_a_hundred_readers_of_one_image_share_one_call_and_its_failure() -> None:
    """Each of them gets the answer, or the error."""
    stage = Stage(FakeService([image("1"), image("2")]))
    stage.service.failures["2"] = RefusedUnknownImage("invalid image")
    outcomes: list[str] = []

    async def scene(account: Account) -> None:
        async def read(image_id: str) -> None:
            try:
                outcomes.append((await account.details(image_id)).image_id)
            except ServiceError as error:
                outcomes.append(str(error))

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(read, "1")
                nursery.start_soon(read, "2")

    play_with(stage, scene)
    assert sorted(stage.service.asked) == ["1", "2"]
    assert outcomes.count("1") == outcomes.count("invalid image") == 100


def test_cancelling_one_reader_leaves_the_call_to_the_others() -> None:
    """The call goes on, and what it brought is kept."""
    stage = Stage(FakeService([image("1")]))
    stage.latency_s = 2

    async def scene(account: Account) -> None:
        with trio.move_on_after(1) as killed:
            await account.details("1")
        assert killed.cancelled_caught
        await account.details("1")
        assert stage.service.asked == ["1"]

    play_with(stage, scene)


@pytest.mark.parametrize(
    "failure", [RefusedUnknownImage("invalid image"), MalformedAnswer("The answer has no details.")]
)
def test_a_failure_is_remembered_shown_and_forgotten(failure: ServiceError) -> None:
    """For five seconds it is answered from memory; its text stands until the details can be had."""
    stage = Stage(FakeService([image("1"), image("2")]))
    stage.service.failures["1"] = failure

    async def scene(account: Account) -> None:
        for _ in range(10):
            with pytest.raises(type(failure), match=str(failure)):
                await account.details("1")
        assert stage.service.asked == ["1"]
        assert account.error_of("1") == str(failure)
        await account.details("2")
        assert account.error_of("2") is None
        await trio.sleep(5.1)
        stage.service.failures.clear()
        await account.details("1")
        assert account.error_of("1") is None

    play_with(stage, scene)


@pytest.mark.parametrize(
    ("failure", "level"),
    [(RefusedUnknownImage("invalid image"), logging.INFO), (ServiceError("It failed."), logging.WARNING)],
)
def test_an_image_that_goes_is_no_trouble(
    failure: ServiceError, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody may delete it while its details are asked for."""
    caplog.set_level(logging.INFO)
    stage = Stage(FakeService([image("1")]))
    stage.service.failures["1"] = failure

    async def scene(account: Account) -> None:
        with pytest.raises(ServiceError):
            await account.details("1")

    play_with(stage, scene)
    assert [record.levelno for record in caplog.records if "cannot be had" in record.message] == [level]


def test_details_that_make_no_sense_are_shown_with_their_problem_and_asked_for_again() -> None:
    """They are not kept for good: the service may come to its senses."""
    stage = Stage(FakeService([image("1")]))
    stage.service.details["1"] = replace(
        details_of(image("1")), size_bytes=None, problem="The size is negative."
    )

    async def scene(account: Account) -> None:
        await account.details("1")
        assert account.error_of("1") == "The size is negative."
        del stage.service.details["1"]
        await trio.sleep(31)
        assert (await account.details("1")).size_bytes == 1000
        assert account.error_of("1") is None

    play_with(stage, scene)


def test_errors_can_be_noted_and_cleared() -> None:
    """Other rooms leave an image's last failure here."""
    stage = Stage(FakeService([image("1")]))

    async def scene(account: Account) -> None:
        account.note_error("1", "The content is wrong.")
        assert account.error_of("1") == "The content is wrong."
        account.note_error("1", None)
        account.note_error("1", None)
        assert account.error_of("1") is None
        account.note_error("1", "The service does not answer.")
        await account.details("1")
        assert account.error_of("1") is None

    play_with(stage, scene)


def test_a_dead_service_is_not_waited_for_once_per_image() -> None:
    """A thousand images cost one long and one short deadline, and then nothing for a while."""
    stage = Stage(FakeService([image(str(n)) for n in range(1000)]))

    async def run_into_deadline(account: Account) -> None:
        stage.service.details_failure = AWAY
        stage.failure_latency_s = 30
        with pytest.raises(Unreachable):
            await account.details("0")
        stage.failure_latency_s = 10
        for n in range(1, 1000):
            with pytest.raises(Unreachable):
                await account.details(str(n))
        assert stage.service.deadlines_s == [30, 10]
        await trio.sleep(5.1)
        stage.service.details_failure = None
        await account.details("0")
        await trio.sleep(2)
        await account.details("1")
        assert stage.service.deadlines_s == [30, 10, 10, 30]

    play_with(stage, run_into_deadline)


def test_one_image_that_always_fails_does_not_hide_the_others() -> None:
    """However often it is asked for, the failure is never taken for the service's."""
    stage = Stage(FakeService([image("1"), image("2")]))
    stage.service.failures["1"] = AWAY

    async def scene(account: Account) -> None:
        for _ in range(3):
            with pytest.raises(Unreachable):
                await account.details("1")
            await trio.sleep(6)
        with pytest.raises(Unreachable):
            await account.details("1")
        assert (await account.details("2")).image_id == "2"

    play_with(stage, scene)


def test_the_wait_for_a_turn_counts() -> None:
    """Where many wait for a slow service, each knows within the deadline of one call, however many are before it."""
    stage = Stage(FakeService([image(str(number)) for number in range(48)]))
    stage.latency_s = 15.0
    took: list[tuple[float, bool]] = []

    async def scene(account: Account) -> None:
        async def ask(image_id: str) -> None:
            began_at = trio.current_time()
            try:
                await account.details(image_id)
            except Unreachable:
                took.append((trio.current_time() - began_at, False))
            else:
                took.append((trio.current_time() - began_at, True))

        async with trio.open_nursery() as nursery:
            for number in range(48):
                nursery.start_soon(ask, str(number))

    play_with(stage, scene)
    assert Counter(took) == {(15.0, True): 16, (20.0, False): 16, (30.0, True): 16}
    assert set(stage.service.deadlines_s) == {30.0, 15.0}


def test_the_local_time_of_an_image_that_others_have_deleted_is_forgotten() -> None:
    """That of one that is just missing from a listing stays."""
    stage = Stage(FakeService([image("1"), image("2"), image("3")]))
    stage.service.details["2"] = details_of(image("2"))

    async def scene(account: Account) -> None:
        await account.set_mtime("1", 123)
        await account.set_mtime("2", 456)
        stage.service.rows = [image("3")]
        await account.refresh()
        await trio.sleep(1)
        assert (account.local_mtime("1"), account.local_mtime("2")) == (None, 456)

    play_with(stage, scene)
    assert stage.index.mtimes == {"2": 456}


def test_local_times_are_kept() -> None:
    """A modification time that a tool set is there in the next mount."""
    stage = Stage(FakeService([image("1")]))

    async def scene(account: Account) -> None:
        assert account.local_mtime("1") is None
        await account.set_mtime("1", 123)
        assert account.local_mtime("1") == 123

    play_with(stage, scene)

    async def next_mount(account: Account) -> None:
        assert account.local_mtime("1") == 123

    play_with(stage, next_mount)
