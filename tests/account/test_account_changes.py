"""Renaming, deleting and replicating: what is shown, what is sent, and what a lost answer leads to."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
import trio
from account_changing import AWAY, DROPPED, LOST, ChangingService
from account_fakes import FakeIndex, FakeListing, Stage, details_of, image, play

from imagefs.account import Account, AccountSettings
from imagefs.core.control_lines import parse_line
from imagefs.core.models import Phase
from imagefs.errors import (
    AnswerLost,
    Busy,
    CacheFull,
    ImageFailed,
    ImagePending,
    NotFound,
    NotPermitted,
    NotSupported,
    Overloaded,
    PutOff,
    ReadOnly,
    RefusedPermission,
    RefusedUnknownImage,
    Unreachable,
)


def stage_of(
    *rows: object, fates: tuple[object, ...] = (), **options: object
) -> tuple[Stage, ChangingService]:
    """A stage with a service of these images."""
    service = ChangingService(list(rows), fates=deque(fates), **options)
    return Stage(service), service


def shown(account: Account) -> dict[str, tuple[str, str]]:
    """(region, name) of what is shown, by id."""
    assert account.snapshot is not None
    return {one.image_id: (one.region, one.name) for one in account.snapshot.images}


def test_a_renamed_image_shows_its_name_at_once_whatever_older_listings_say() -> None:
    """A listing that was asked for before the rename was answered does not undo it."""
    stage, service = stage_of(image("1", "old"))

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            await account.images()
            service.lag_s = 3
            nursery.start_soon(account.refresh)
            await trio.sleep(0.01)
            await account.rename("1", "new")
            for _ in range(4):
                assert shown(account)["1"] == ("toronto", "new")
                await trio.sleep(1)
                await account.refresh()
            assert service.changes == [("rename", "1", "new")]
            assert stage.index.intents == {}

    play(scene)


def test_the_services_word_counts_once_it_has_settled() -> None:
    """A rename that never shows in the listing is not shown for ever; one by somebody else shows at once."""
    stage, service = stage_of(image("1", "old"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.rename("1", "mine")
            service.change("1", name="theirs")
            await trio.sleep(1)
            await account.refresh()
            assert shown(account)["1"] == ("toronto", "theirs")
            await account.rename("1", "mine")
            service.change("1", name="theirs")
            await account.refresh()
            assert shown(account)["1"] == ("toronto", "mine")
            await trio.sleep(31)
            await account.refresh()
            assert shown(account)["1"] == ("toronto", "theirs")

    play(scene)


@pytest.mark.parametrize(("fate", "calls"), [(LOST, 1), (DROPPED, 2)])
def test_a_rename_whose_answer_is_lost_is_looked_for(fate: str, calls: int) -> None:
    """Where the account has the name, it is done; else it is asked for once more."""
    stage, service = stage_of(image("1", "old"), fates=(fate,))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.rename("1", "new")
            assert shown(account)["1"] == ("toronto", "new")
            assert len(service.changes) == calls
            assert service.names() == [("toronto", "new")]

    play(scene)


@pytest.mark.parametrize(("fate", "calls"), [(LOST, 1), (DROPPED, 2)])
def test_a_deletion_whose_answer_is_lost_is_looked_for(fate: str, calls: int) -> None:
    """An image that is gone was deleted; one that is there is deleted again."""
    stage, service = stage_of(image("1"), image("2"), fates=(fate,))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.delete("1")
            assert list(shown(account)) == ["2"]
            assert len(service.changes) == calls

    play(scene)


def test_a_deletion_carried_out_late_is_a_success() -> None:
    """The image was still listed after the first call, and unknown to the second."""
    stage, service = stage_of(image("1"), fates=(LOST,), lag_s=0.01)
    stage.latency_s = 0.005
    service.details_failure = Overloaded("busy")

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.delete("1")
            assert shown(account) == {}
            assert len(service.changes) == 2

    play(scene)


def test_a_deleted_image_is_gone_at_once() -> None:
    """And stays so, whatever was listed before, and while the service still lists it for a moment."""
    stage, service = stage_of(image("1"), image("2"))

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            await account.images()
            service.lag_s = 4
            nursery.start_soon(account.refresh)
            await trio.sleep(0.01)
            await account.delete("1")
            for _ in range(5):
                assert list(shown(account)) == ["2"]
                await trio.sleep(1)
                await account.refresh()
            with pytest.raises(NotFound):
                await account.delete("1")
            assert service.changes == [("delete", "1")]

    play(scene)


def test_refusals_are_raised_and_change_nothing() -> None:
    """A public template, a quota, an image that is gone, a busy service: each in its own class."""
    fates = (RefusedPermission("public"), Overloaded("busy"), RefusedPermission("public"), AWAY)
    stage, _service = stage_of(image("1"), fates=fates)

    async def scene() -> None:
        async with stage.account() as account:
            before = await account.images()
            with pytest.raises(RefusedPermission):
                await account.delete("1")
            with pytest.raises(Overloaded):
                await account.rename("1", "new")
            with pytest.raises(RefusedPermission):
                await account.replicate("1", "montreal", "copy")
            with pytest.raises(Unreachable):
                await account.move("1", "montreal", "copy")
            assert shown(account) == {"1": ("toronto", "image 1")}
            assert account.snapshot is not None
            assert account.snapshot.images == before.images
            assert stage.index.intents == {}

    play(scene)


@pytest.mark.parametrize(
    "change", [("rename", "1", "new"), ("delete", "1"), ("replicate", "1", "montreal", "copy")]
)
def test_an_image_that_is_there_and_refused_as_unknown_is_not_the_account_s(
    change: tuple[str, ...],
) -> None:
    """A public template, to a service that says of each image of others that it does not know it: it stays shown."""
    stage, service = stage_of(image("1"), fates=(RefusedUnknownImage("invalid image"),))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            with pytest.raises(RefusedPermission, match="invalid image"):
                await getattr(account, change[0])(*change[1:])
            assert shown(account) == {"1": ("toronto", "image 1")}
            assert len(service.changes) == 1
            assert stage.index.intents == {}

    play(scene)


def test_an_image_that_others_deleted_is_hidden() -> None:
    """The service does not know it: that is an error, and the name is gone."""
    stage, service = stage_of(image("1"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            service.rows = []
            with pytest.raises(RefusedUnknownImage):
                await account.delete("1")
            assert shown(account) == {}

    play(scene)


@pytest.mark.parametrize(
    ("settings", "error"),
    [(AccountSettings(read_only=True), ReadOnly), (AccountSettings(no_delete=True), NotPermitted)],
)
def test_a_mount_that_deletes_nothing_makes_no_call(
    settings: AccountSettings, error: type[Exception]
) -> None:
    """It is refused before anything is sent or written."""
    stage, service = stage_of(image("1"))
    stage.settings = settings

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            with pytest.raises(error):
                await account.delete("1")
            with pytest.raises(error):
                await account.move("1", "montreal", "a")
            if settings.read_only:
                with pytest.raises(error):
                    await account.rename("1", "a")
                with pytest.raises(error):
                    await account.replicate("1", "montreal", "a")
            assert service.changes == []

    play(scene)


def test_a_replica_is_shown_at_once_and_named_as_soon_as_possible() -> None:
    """Pending, under the wanted name, with its source's size; at the end it is as the service says."""
    stage, service = stage_of(image("1", "a"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.replicate("1", "montreal", "b")
            assert shown(account)[new] == ("montreal", "b")
            details = await account.details(new)
            assert (details.size_bytes, details.checksum, details.phase) == (1000, None, Phase.PENDING)
            await trio.sleep(1)
            assert service.names() == [("montreal", "b"), ("toronto", "a")]
            await account.wait_active(new)
            assert (await account.details(new)).checksum is not None
            assert service.changes == [("replicate", "1", "montreal"), ("rename", new, "b")]
            assert service.asked.count(new) == 2  # before it is named, and when it is active
            assert stage.index.intents == {}

    play(scene)


def test_a_replica_that_cannot_be_renamed_while_pending_is_renamed_when_active() -> None:
    """It shows under its name all the time, and one that the person changes meanwhile counts."""
    stage, service = stage_of(image("1", "a"), pending_changes=False)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.replicate("1", "montreal", "b")
            await trio.sleep(10)
            await account.rename(new, "c")
            assert shown(account)[new] == ("montreal", "c")
            assert ("montreal", "a") in service.names()
            await account.wait_active(new)
            assert ("montreal", "c") in service.names()
            assert shown(account)[new] == ("montreal", "c")

    play(scene)


def test_a_name_that_is_refused_for_good_is_given_up() -> None:
    """The replica keeps its source's name, and says why."""
    stage, service = stage_of(image("1", "a"), saving_s=0.0)
    service.fates = deque([None, *2 * [RefusedPermission("not this name")]])

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.replicate("1", "montreal", "b")
            await account.wait_active(new)
            assert shown(account)[new] == ("montreal", "a")
            assert "not this name" in (account.error_of(new) or "")

    play(scene)


def test_pending_images_are_polled_together_and_ever_more_rarely() -> None:
    """Ten replicas over ten minutes cost few listings; one who waits speeds that up."""
    stage, service = stage_of(*(image(str(n)) for n in range(10)), saving_s=600)

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            await account.images()
            new = [await account.replicate(str(n), "montreal", f"copy {n}") for n in range(10)]
            before = service.listings
            await trio.sleep(300)
            assert 10 <= service.listings - before <= 25
            for image_id in new:
                nursery.start_soon(account.wait_active, image_id)
            before = service.listings
            await trio.sleep(100)
            assert 40 <= service.listings - before <= 60
            await trio.sleep(300)
        assert len(service.asked) == 30

    play(scene)


def test_nothing_is_polled_when_nothing_is_pending() -> None:
    """A mount at rest leaves the service alone."""
    stage, service = stage_of(image("1"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.replicate("1", "montreal", "b")
            await account.wait_active(new)
            before = service.listings
            await trio.sleep(1000)
            assert service.listings == before

    play(scene)


@pytest.mark.parametrize("saving_s", [0.0, 60.0])
def test_a_replica_whose_answer_is_lost_is_found(saving_s: float) -> None:
    """By listing: it is never asked for twice, active already or not."""
    stage, service = stage_of(image("1", "a"), image("2", "a", "montreal"), fates=(LOST,), saving_s=saving_s)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.replicate("1", "montreal", "b")
            assert service.created == [new]
            await account.wait_active(new)
            assert service.names() == [("montreal", "a"), ("montreal", "b"), ("toronto", "a")]

    play(scene)


def test_a_replica_whose_answer_is_lost_is_found_by_the_name_that_its_source_has_by_now() -> None:
    """Somebody else renamed the source, and this mount has not seen that yet."""
    stage, service = stage_of(image("1", "a"), fates=(LOST,))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            service.change("1", name="theirs")
            new = await account.replicate("1", "montreal", "b")
            assert service.created == [new]
            await account.wait_active(new)
            assert service.names() == [("montreal", "b"), ("toronto", "theirs")]

    play(scene)


def test_replicas_whose_answers_are_lost_are_told_apart_where_both_begin_with_one_name() -> None:
    """Of two sources that somebody else gave one name, one is replicated after the other."""
    stage, service = stage_of(image("1", "a"), image("2", "c"), fates=(LOST, LOST))
    new = {}

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            await account.images()
            service.change("1", name="theirs")
            service.change("2", name="theirs")

            async def replicate(image_id: str, name: str) -> None:
                new[image_id] = await account.replicate(image_id, "montreal", name)

            nursery.start_soon(replicate, "1", "b")
            nursery.start_soon(replicate, "2", "d")

    play(scene)
    assert sorted(new.values()) == sorted(service.created)
    assert len(service.created) == 2


def test_a_pending_image_that_gets_its_earlier_name_back_has_it_although_an_answer_was_lost() -> None:
    """The rename in between gave it the name that it had at first, so the listing alone does not tell old from new."""
    stage, service = stage_of(image("1", "c"), fates=(None, None, LOST), saving_s=10)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.replicate("1", "montreal", "b")
            await trio.sleep(1)
            assert service.changes[-1] == ("rename", new, "b")
            await account.rename(new, "c")
            await trio.sleep(0.1)
            assert service.changes[-1] == ("rename", new, "c")
            await account.rename(new, "b")
            await account.wait_active(new)
            assert shown(account)[new] == ("montreal", "b")
            assert service.names() == [("montreal", "b"), ("toronto", "c")]

    play(scene)


def test_a_slow_service_is_looked_at_twice() -> None:
    """The replica shows in the second listing only."""
    stage, service = stage_of(image("1"), fates=(LOST,), lag_s=2)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await trio.sleep(5)
            new = await account.replicate("1", "montreal", "b")
            assert service.created == [new]

    play(scene)


CREATING = {
    "replicate": lambda account: account.replicate("1", "montreal", "b"),
    "move": lambda account: account.move("1", "montreal", "b"),
    "fetch": lambda account: account.fetch(FETCH, "montreal"),
}

CHANGING = CREATING | {
    "rename": lambda account: account.rename("1", "b"),
    "delete": lambda account: account.delete("1"),
}


@pytest.mark.parametrize("kind", ["replicate", "move", "rename", "delete"])
@pytest.mark.parametrize("error", [RefusedPermission("not on a Sunday"), Overloaded("not on a Sunday")])
def test_a_change_that_fails_is_the_last_failure_of_its_image(kind: str, error: Exception) -> None:
    """Whoever was told by an errno alone finds the service's words on the image."""
    stage, _ = stage_of(image("1", "a"), fates=(error,))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            assert account.error_of("1") is None
            with pytest.raises(type(error)):
                await CHANGING[kind](account)
            assert "not on a Sunday" in (account.error_of("1") or "")

    play(scene)


@pytest.mark.parametrize("kind", CREATING)
@pytest.mark.parametrize("fate", [LOST, DROPPED])
@pytest.mark.parametrize("lag_s", [60, 3600])
def test_a_request_whose_answer_is_lost_is_never_sent_again(kind: str, fate: str, lag_s: float) -> None:
    """However late listings are: who asked is told that it is not known, and the source of a move stays."""
    stage, service = stage_of(image("1", "a"), fates=(fate,), lag_s=lag_s)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            with pytest.raises(AnswerLost):
                await CREATING[kind](account)
            await trio.sleep(2 * lag_s + 200)
            assert len(service.created) == (1 if fate == LOST else 0)
            assert [call[0] for call in service.changes] == ["fetch" if kind == "fetch" else "replicate"]
            assert stage.index.intents == {}
            await account.refresh()
            assert set(shown(account)) == {"1", *service.created}

    play(scene)


def test_a_request_in_doubt_holds_up_none_but_its_own_name() -> None:
    """What became of it is looked for meanwhile."""
    stage, service = stage_of(image("1", "a"), image("2", "c"), fates=(DROPPED,))

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            await account.images()

            async def lose() -> None:
                with pytest.raises(AnswerLost):
                    await account.replicate("1", "montreal", "b")

            nursery.start_soon(lose)
            await trio.sleep(1)
            with trio.fail_after(1):
                new = await account.replicate("2", "montreal", "d")
            await account.wait_active(new)
            assert service.names() == [("montreal", "d"), ("toronto", "a"), ("toronto", "c")]

    play(scene)


@pytest.mark.parametrize("kind", CHANGING)
def test_what_the_service_puts_off_is_asked_for_again_while_someone_waits(kind: str) -> None:
    """Five times 503, with and without a time to wait; then it is done, once."""
    fates = (PutOff("503"), PutOff("503", 2.0), PutOff("503"), PutOff("503", 1.0), PutOff("503"))
    stage, service = stage_of(image("1", "a"), fates=fates)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await CHANGING[kind](account)
            assert len(service.created) == (1 if kind in CREATING else 0)
            await trio.sleep(200)
            assert stage.index.intents == {} or kind == "fetch"
            assert ("toronto", "a") in service.names() or kind in ("rename", "delete", "move")

    play(scene)


@pytest.mark.parametrize("asked_s", [None, 5.0, 600.0])
@pytest.mark.parametrize("kind", CHANGING)
def test_what_the_service_puts_off_for_too_long_ends_in_time(kind: str, asked_s: float | None) -> None:
    """With its own word, and nothing is done."""
    stage, service = stage_of(image("1", "a"), fates=(PutOff("503", asked_s),) * 50)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            began = trio.current_time()
            with pytest.raises(PutOff):
                await CHANGING[kind](account)
            waited_s = trio.current_time() - began
            assert waited_s < 1 if asked_s == 600 else 15 < waited_s < 30
            assert service.names() == [("toronto", "a")]
            assert stage.index.intents == {}

    play(scene)


@pytest.mark.parametrize("during", ["wait", "look"])
@pytest.mark.parametrize("kind", CHANGING)
def test_what_the_service_puts_off_is_not_asked_for_again_when_nobody_waits_any_more(
    kind: str, during: str
) -> None:
    """One who gives up, during the wait or the look after it, does not find it done later."""
    patience = trio.CancelScope()

    class Watched(ChangingService):
        def listing(self) -> FakeListing:
            if self.changes:
                patience.cancel()
            return super().listing()

    service = Watched([image("1", "a")], fates=deque([PutOff("503", 10.0)]))
    stage = Stage(service)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            if during == "wait":
                patience.deadline = trio.current_time() + 5
            with patience:
                await CHANGING[kind](account)
            assert patience.cancelled_caught
            await trio.sleep(200)
            assert len(service.changes) == 1
            assert service.names() == [("toronto", "a")]
            assert stage.index.intents == {}

    play(scene)


def test_what_the_service_did_although_it_said_that_it_put_it_off_is_found() -> None:
    """It is not asked for again."""

    class Rash(ChangingService):
        def replicate_image(self, image_id: str, region: str, *, deadline_s: float | None = None) -> str:
            super().replicate_image(image_id, region)
            raise PutOff("503")

    service = Rash([image("1", "a")])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            assert await account.replicate("1", "montreal", "b") == "100"
            assert service.created == ["100"]

    play(scene)


async def move_in_doubt(account: Account, service: ChangingService, told: str) -> None:
    """Move an image while somebody adds one of its name to the target region: it is told which may be the new one."""

    async def meddle() -> None:
        await trio.sleep(0.07)
        service.rows = [*service.rows, image("50", "a", "montreal")]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(meddle)
        with pytest.raises(AnswerLost, match=told):
            await account.move("1", "montreal", "b")


def test_several_images_that_could_be_the_new_one_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """None is touched, now or by a later mount, and each says so."""
    stage, service = stage_of(image("1", "a"), fates=(LOST,))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await move_in_doubt(account, service, r"(100, 50|50, 100) may be the new one")
            assert sorted(shown(account)) == ["1", "100", "50"]
            assert "may be the new one" in (account.error_of("50") or "")
            assert len(service.created) == 1
            await account.wait_active("100")

    play(scene)
    service.next_id = 200

    async def next_mount() -> None:
        async with Stage(service, stage.index).account() as account:
            await account.refresh()
            await trio.sleep(100)
            assert "may be the new one" in (account.error_of("100") or "")
            service.rows = [row for row in service.rows if row.image_id == "1"]
            await account.refresh()
            await trio.sleep(1)
            assert stage.index.intents == {}

    play(next_mount)
    assert [call[0] for call in service.changes] == ["replicate"]
    assert "may be the new one" in caplog.text


def test_another_content_of_the_same_name_is_not_taken_for_the_new_image() -> None:
    """Somebody adds it while an answer is missing: it is neither renamed nor is another replica asked for."""
    stage, service = stage_of(image("1", "a"), fates=(DROPPED,))
    service.unlike.add("50")

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await move_in_doubt(account, service, "50 may be the new one")
            assert sorted(shown(account)) == ["1", "50"]
            await trio.sleep(100)
        assert [call[0] for call in service.changes] == ["replicate"]

    play(scene)


def test_two_replicas_of_one_image_to_one_region_are_told_apart() -> None:
    """Both answers are lost; each of them becomes one of the two."""
    stage, service = stage_of(image("1", "a"), fates=(LOST, LOST))
    new: list[str] = []

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()

            async def copy(name: str) -> None:
                new.append(await account.replicate("1", "montreal", name))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy, "b")
                nursery.start_soon(copy, "c")
            assert sorted(new) == sorted(service.created)
            for image_id in new:
                await account.wait_active(image_id)
            assert service.names() == [("montreal", "b"), ("montreal", "c"), ("toronto", "a")]

    play(scene)


def test_replicas_of_one_name_to_one_region_are_told_apart() -> None:
    """Two images called the same are copied at once, both answers are lost: each gets its own copy's id."""
    stage, service = stage_of(image("1", "a"), image("2", "a", "roubaix"), fates=(LOST, LOST))
    sources: dict[str, str] = {}

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()

            async def copy(image_id: str) -> None:
                sources[await account.replicate(image_id, "montreal", f"copy of {image_id}")] = image_id

            async with trio.open_nursery() as nursery:
                nursery.start_soon(copy, "1")
                nursery.start_soon(copy, "2")
            requests = [call[1] for call in service.changes if call[0] == "replicate"]
            assert sources == dict(zip(service.created, requests, strict=True))

    play(scene)


@pytest.mark.parametrize("outage_s", [100, 10_000])
def test_what_nobody_waits_for_any_more_is_never_sent_again(outage_s: float) -> None:
    """The caller was told that it failed: if the service has not begun with it, it stays undone."""
    stage, service = stage_of(image("1", "a"), fates=(DROPPED,))

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            await account.images()

            async def cut_off() -> None:
                await trio.sleep(0.12)
                service.listing_failure = Unreachable("away")
                await trio.sleep(outage_s)
                service.listing_failure = None

            nursery.start_soon(cut_off)
            with pytest.raises(AnswerLost, match="background"):
                await account.replicate("1", "montreal", "b")
            await trio.sleep(outage_s + 200)
            assert service.created == []
            assert stage.index.intents == {}

    play(scene)


def test_what_the_service_takes_too_long_for_goes_on_in_the_background() -> None:
    """The caller has an answer after 30 s; the replica shows when the service is back."""
    stage, service = stage_of(image("1", "a"), fates=(LOST,))

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            await account.images()

            async def cut_off() -> None:
                await trio.sleep(0.08)
                service.listing_failure = Unreachable("away")
                await trio.sleep(100)
                service.listing_failure = None

            nursery.start_soon(cut_off)
            began = trio.current_time()
            with pytest.raises(AnswerLost, match="background"):
                await account.replicate("1", "montreal", "b")
            assert trio.current_time() - began == pytest.approx(30)
            assert "background" in (account.error_of("1") or "")
            with pytest.raises(Busy):
                await account.rename("1", "other")
            await trio.sleep(120)
            assert account.error_of("1") is None
            assert shown(account)["100"] == ("montreal", "b")
            await account.wait_active("100")
            assert service.created == ["100"]

    play(scene)


def test_one_who_leaves_before_anything_was_sent_takes_the_change_along() -> None:
    """Killed while another change of the image is under way: nothing is sent later."""
    stage, service = stage_of(image("1", "a"))
    stage.latency_s = 5

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            await account.images()
            nursery.start_soon(account.rename, "1", "b")
            await trio.sleep(0.1)
            with trio.move_on_after(1):
                await account.rename("1", "c")
            await trio.sleep(100)
            assert service.changes == [("rename", "1", "b")]

    play(scene)


def test_one_who_leaves_after_it_was_sent_leaves_it_to_the_background() -> None:
    """Killed while the answer is on its way: the change counts."""
    stage, _service = stage_of(image("1", "a"))
    stage.latency_s = 5

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            with trio.move_on_after(1):
                await account.rename("1", "b")
            await trio.sleep(10)
            assert shown(account)["1"] == ("toronto", "b")

    play(scene)


def test_changes_of_one_image_come_one_after_the_other() -> None:
    """The last one asked for is the last one carried out."""
    stage, service = stage_of(image("1", "a"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            async with trio.open_nursery() as nursery:
                for name in "bcd":
                    nursery.start_soon(account.rename, "1", name)
                    await trio.sleep(0.001)
            assert [call[2] for call in service.changes] == ["b", "c", "d"]
            assert shown(account)["1"] == ("toronto", "d")

    play(scene)


def test_without_a_journal_nothing_is_sent() -> None:
    """A full cache disk refuses what must not be forgotten, and nothing else."""
    stage, service = stage_of(image("1", "a"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            stage.index.failure = CacheFull("The disk is full.")
            with pytest.raises(CacheFull):
                await account.move("1", "montreal", "b")
            assert service.changes == []
            await account.rename("1", "c")
            stage.index.failure = None
            new = await account.move("1", "montreal", "b")
            await account.wait_active(new)
            await trio.sleep(5)
            assert service.names() == [("montreal", "b")]
            assert stage.index.intents == {}

    play(scene)


def test_what_could_not_be_written_down_is_with_the_next_change() -> None:
    """A replica was finished while the disk was full: the next mount must not look into it again."""
    stage, service = stage_of(image("1", "a"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            replica = await account.replicate("1", "montreal", "b")
            stage.index.failure = CacheFull("The disk is full.")
            await account.wait_active(replica)
            assert len(stage.index.intents) == 1
            stage.index.failure = None
            await account.wait_active(await account.replicate("1", "roubaix", "c"))
            assert stage.index.intents == {}
        assert sorted(service.names()) == [("montreal", "b"), ("roubaix", "c"), ("toronto", "a")]

    play(scene)


def test_what_cannot_be_replicated_is_refused_before_any_call() -> None:
    """Within one region, pending, failed, unknown; and a move of what cannot be compared."""
    stage, service = stage_of(
        image("1"), image("2", status="queued"), image("3", status="killed"), image("4")
    )
    service.details["4"] = replace(details_of(image("4")), checksum=None)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            for image_id, region, error in (
                ("1", "toronto", NotSupported),
                ("2", "montreal", ImagePending),
                ("3", "montreal", ImageFailed),
                ("9", "montreal", NotFound),
                ("4", "montreal", NotSupported),
            ):
                with pytest.raises(error):
                    await account.move(image_id, region, "x")
            assert service.changes == []

    play(scene)


FETCH = parse_line("https://me:secret@host/pub/debian.iso?token=1 name=d.iso")


@pytest.mark.parametrize("fate", [None, LOST])
def test_a_fetched_image_is_shown_at_once(fate: str | None) -> None:
    """Under its name, and where it comes from is remembered over remounts, without its secrets."""
    stage, service = stage_of(fates=(fate,))
    assert FETCH is not None

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.fetch(FETCH, "roubaix")
            assert shown(account)[new] == ("roubaix", "d.iso")
            assert account.location_of(new) == "https://host/pub/debian.iso"
            assert (await account.details(new)).size_bytes is None
            await account.wait_active(new)
            assert service.changes == [("fetch", "roubaix", "d.iso", FETCH.url)]

    async def next_mount() -> None:
        async with Stage(service, stage.index).account() as account:
            assert account.location_of("100") == "https://host/pub/debian.iso"

    play(scene)
    assert not any(b"secret" in raw or b"token" in raw for raw in stage.index.intents.values())
    play(next_mount)


def test_a_fetched_image_that_is_killed_says_so() -> None:
    """One who waits for it is told."""
    stage, service = stage_of()
    service.ends["100"] = "killed"
    assert FETCH is not None

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.fetch(FETCH, "roubaix")
            with pytest.raises(ImageFailed, match="killed"):
                await account.wait_active(new)
            assert "killed" in (account.error_of(new) or "")

    play(scene)


def test_waiting_for_images_of_others() -> None:
    """By the listing alone: active, failed, or gone."""
    stage, service = stage_of(image("1"), image("2", status="queued"), image("3", status="saving"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.wait_active("1")
            with pytest.raises(NotFound):
                await account.wait_active("9")

            async def end() -> None:
                await trio.sleep(20)
                service.change("2", status="active")
                service.change("3", status="error")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(end)
                await account.wait_active("2")
                with pytest.raises(ImageFailed):
                    await account.wait_active("3")
            assert trio.current_time() < 25

    play(scene)


def test_subscribers_hear_of_this_mounts_own_changes() -> None:
    """The kernel's names are invalidated by the same way as for changes of others."""
    stage, _service = stage_of(image("1", "a"))
    heard: list[list[str]] = []

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            account.subscribe(on_change=lambda _, new: heard.append([one.name for one in new.images]))
            await account.rename("1", "b")
            await account.replicate("1", "montreal", "c")
            await account.delete("1")
            await trio.sleep(100)

    play(scene)
    assert heard[:3] == [["b"], ["b", "c"], ["c"]]


def test_a_journal_that_could_not_be_read_is_read_before_it_is_written() -> None:
    """An unreadable index at the start does not lose what an earlier mount had to finish."""
    index = FakeIndex()
    index.failure = CacheFull("no")
    service = ChangingService([image("1", "a")])
    stage = Stage(service, index)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            with pytest.raises(CacheFull):
                await account.replicate("1", "montreal", "b")
            index.failure = None
            await account.replicate("1", "montreal", "b")

    play(scene)
    assert service.created == ["100"]


def test_a_plain_change_writes_nothing_to_the_journal() -> None:
    """It takes one call, and no wait for the disk."""
    stage, service = stage_of(image("1", "a"), image("2"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            await account.rename("1", "b")
            await account.delete("2")
            assert len(service.changes) == 2
            assert stage.index.calls["write_intents"] == 0

    play(scene)
