"""Renaming, deleting, replicating and fetching: what is shown, what is sent, and what is refused."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
import trio
from account_changing import AWAY, CHANGING, FETCH, LOST, ChangingService, shown, stage_of
from account_fakes import FakeIndex, Stage, details_of, image, play

from imagefs.account import AccountSettings
from imagefs.core.models import Phase
from imagefs.errors import (
    CacheFull,
    ImageFailed,
    ImagePending,
    NotFound,
    NotPermitted,
    NotSupported,
    Overloaded,
    ReadOnly,
    RefusedPermission,
    RefusedUnknownImage,
    Unreachable,
)


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


def test_the_last_image_can_be_deleted_and_another_be_fetched_at_once() -> None:
    """The listing is empty then, though the service has details of what is gone for a while."""
    service = ChangingService([image("1", "a")])
    service.details["1"] = details_of(image("1", "a"))

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            await account.delete("1")
            new = await account.fetch(FETCH, "toronto")
            assert shown(account) == {new: ("toronto", "d.iso")}

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
