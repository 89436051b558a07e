"""Moves between regions and deletions that wait: nothing goes before its replica is there and right."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
import trio
from account_changing import AWAY, DROPPED, LOST, ChangingService, stage_of
from account_fakes import CHECKSUM, Stage, details_of, image, play

from imagefs.account import Account, AccountSettings
from imagefs.core.intents import Creation, Deletion, Remark, dump_intent
from imagefs.core.models import ListedImage
from imagefs.errors import (
    AnswerLost,
    ImageFailed,
    NotFound,
    NotSupported,
    Refused,
    RefusedPermission,
    Unreachable,
)


def names(account: Account) -> list[tuple[str, str]]:
    """(region, name) of what is shown."""
    assert account.snapshot is not None
    return sorted((one.region, one.name) for one in account.snapshot.images)


@pytest.mark.parametrize("pending_changes", [True, False])
def test_a_moved_image_is_deleted_when_its_replica_is_right(pending_changes: bool) -> None:
    """To the person it has moved at once; in the account it is there twice until the end."""
    stage, service = stage_of(image("1", "a"), pending_changes=pending_changes)
    moved: set[tuple[str, str]] = set()

    async def scene() -> None:
        async with stage.account() as account:
            account.subscribe(on_moved=lambda *ids: moved.add(ids))
            await account.images()
            new = await account.move("1", "montreal", "b")
            assert names(account) == [("montreal", "b")]
            assert account.is_going("1")
            await trio.sleep(50)
            assert len(service.rows) == 2
            await account.refresh()
            assert names(account) == [("montreal", "b")]
            assert not moved
            await account.wait_active(new)
            await trio.sleep(10)
            assert moved == {("1", new)}
            assert service.names() == [("montreal", "b")]
            assert names(account) == [("montreal", "b")]
            assert not account.is_going("1")
            assert stage.index.intents == {}

    play(scene)


@pytest.mark.parametrize("kind", ["killed", "error", "unlike", "vanished", "another size"])
def test_a_move_whose_replica_fails_is_rolled_back(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The source shows again, the replica shows its error, and both say why, over a remount too."""
    stage, service = stage_of(image("1", "a"))
    if kind == "unlike":
        service.unlike.add("100")
    elif kind in ("killed", "error"):
        service.ends["100"] = kind
    errors: list[str] = []
    moved: list[tuple[str, str]] = []

    async def scene() -> None:
        async with stage.account() as account:
            account.subscribe(on_moved=lambda *ids: moved.append(ids))
            await account.images()
            new = await account.move("1", "montreal", "b")
            if kind == "vanished":
                await trio.sleep(30)
                service.rows = [row for row in service.rows if row.image_id == "1"]
            if kind == "another size":
                details = service.image_details("1")
                service.details["1"], service.details[new] = details, details
                service.details[new] = type(details)(new, "b", "montreal", "active", 7, details.checksum, 0)
            with pytest.raises(ImageFailed):
                await account.wait_active(new)
            assert ("toronto", "a") in names(account)
            assert "not deleted" in (account.error_of("1") or "")
            assert not moved
            if kind != "vanished":
                assert ("montreal", "b") in names(account)
                assert account.error_of(new)
                await account.details("1")
                errors.extend(filter(None, (account.error_of("1"), account.error_of(new))))
            await trio.sleep(1000)
            assert not [call for call in service.changes if call[0] == "delete"]

    async def next_mount() -> None:
        async with Stage(service, stage.index).account() as account:
            await account.refresh()
            assert errors == list(filter(None, (account.error_of("1"), account.error_of("100"))))

    play(scene)
    assert "Image 1 is not deleted" in caplog.text
    if kind != "vanished":
        play(next_mount)


@pytest.mark.parametrize("lag_s", [0, 1000])
def test_a_replica_that_was_there_and_is_gone_soon_is_given_up_soon(lag_s: float) -> None:
    """Whether the service has listed it or only renamed it. One that it never knew may yet appear."""
    stage, service = stage_of(image("1", "a"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            service.lag_s = lag_s
            new = await account.move("1", "montreal", "b")
            await trio.sleep(5)
            service.rows = [row for row in service.rows if row.image_id == "1"]
            with trio.fail_after(60), pytest.raises(ImageFailed):
                await account.wait_active(new)
            assert names(account) == [("toronto", "a")]

    play(scene)


def test_a_source_that_cannot_be_deleted_is_shown_again() -> None:
    """A public template, for instance; its replica stays as well."""
    stage, service = stage_of(image("1", "a"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.move("1", "montreal", "a")
            service.fates = deque([RefusedPermission("a public template")])
            await account.wait_active(new)
            await trio.sleep(10)
            assert names(account) == [("montreal", "a"), ("toronto", "a")]
            assert "public template" in (account.error_of("1") or "")
            assert stage.index.intents.keys()

    play(scene)


def test_a_source_that_has_changed_stays() -> None:
    """What was copied is not what would be deleted."""
    stage, service = stage_of(image("1", "a"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.move("1", "montreal", "a")
            service.unlike.add("1")
            await account.wait_active(new)
            await trio.sleep(100)
            assert names(account) == [("montreal", "a"), ("toronto", "a")]

    play(scene)


def test_an_image_is_moved_to_one_region_only() -> None:
    """Of two moves at once the second finds nothing to move."""
    stage, service = stage_of(image("1", "a"))

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            await account.images()
            nursery.start_soon(account.move, "1", "montreal", "a")
            await trio.sleep(0.01)
            with pytest.raises(NotFound):
                await account.move("1", "roubaix", "a")
            await trio.sleep(200)
            assert service.names() == [("montreal", "a")]

    play(scene)


def test_readers_learn_of_a_move_that_its_caller_gave_up() -> None:
    """Ctrl-C ends mv and not the move: readers of the source still learn of the replica."""
    stage, service = stage_of(image("1", "a"))
    moved: set[tuple[str, str]] = set()

    async def scene() -> None:
        async with stage.account() as account:
            account.subscribe(on_moved=lambda *ids: moved.add(ids))
            await account.images()
            with trio.move_on_after(0.15) as waiting:  # once the service was asked
                await account.move("1", "montreal", "b")
            assert waiting.cancelled_caught
            await trio.sleep(200)
            assert service.names() == [("montreal", "b")]
            assert moved == {("1", "100")}

    play(scene)


@pytest.mark.parametrize("ends", ["active", "killed"])
def test_a_source_deleted_while_its_replica_is_pending(ends: str) -> None:
    """``cp a b; rm a``: hidden at once, deleted when the replica is right, and shown again where it fails."""
    stage, service = stage_of(image("1", "a"))
    service.ends["100"] = ends

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.replicate("1", "montreal", "b")
            await account.delete("1")
            assert names(account) == [("montreal", "b")]
            assert ("toronto", "a") in service.names()
            await trio.sleep(200)
            left = [("montreal", "b")] if ends == "active" else [("montreal", "b"), ("toronto", "a")]
            assert service.names() == left
            assert names(account) == left

    play(scene)


def test_a_source_waits_for_all_of_its_replicas() -> None:
    """Copied to one region and moved to the other: it goes after the slower of the two."""
    stage, service = stage_of(image("1", "a"), saving_s=300)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.replicate("1", "roubaix", "a")
            service.saving_s = 20
            await account.move("1", "montreal", "a")
            await trio.sleep(100)
            assert names(account) == [("montreal", "a"), ("roubaix", "a")]
            assert ("toronto", "a") in service.names()
            await trio.sleep(300)
            assert service.names() == [("montreal", "a"), ("roubaix", "a")]

    play(scene)


@pytest.mark.parametrize("pending_changes", [True, False])
def test_a_pending_replica_can_be_removed(pending_changes: bool) -> None:
    """At once, or as soon as the service lets it; its source stays as it is."""
    stage, service = stage_of(image("1", "a"), pending_changes=pending_changes)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.replicate("1", "montreal", "b")
            await account.delete(new)
            assert names(account) == [("toronto", "a")]
            with pytest.raises(NotFound):
                await account.wait_active(new)
            await trio.sleep(200)
            assert service.names() == [("toronto", "a")]
            assert names(account) == [("toronto", "a")]
            assert stage.index.intents == {}

    play(scene)


def test_removing_a_pending_replica_undoes_its_move() -> None:
    """``mv a b; rm b`` before the replica is active: what is left is the source."""
    stage, service = stage_of(image("1", "a"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            new = await account.move("1", "montreal", "b")
            await account.delete(new)
            assert names(account) == [("toronto", "a")]
            await trio.sleep(200)
            assert service.names() == [("toronto", "a")]

    play(scene)


def test_a_pending_image_of_others_is_deleted_when_it_can_be() -> None:
    """An upload by other means, removed before it was active."""
    stage, service = stage_of(image("1", status="queued"), image("2"), pending_changes=False)
    service.ready_at["1"] = 100

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.delete("1")
            assert names(account) == [("toronto", "image 2")]
            await trio.sleep(150)
            assert [row.image_id for row in service.rows] == ["2"]

    play(scene)


def test_a_lost_answer_at_the_end_of_a_move_is_settled_by_the_listing() -> None:
    """The source is gone, or is deleted once more."""
    for fate in (LOST, DROPPED, AWAY):
        stage, service = stage_of(image("1", "a"))

        async def scene(stage: Stage = stage, service: ChangingService = service, fate: str = fate) -> None:
            async with stage.account() as account:
                await account.images()
                new = await account.move("1", "montreal", "a")
                service.fates = deque([fate])
                await account.wait_active(new)
                await trio.sleep(200)
                assert service.names() == [("montreal", "a")]
                assert stage.index.intents == {}

        play(scene)


def test_an_outage_in_the_middle_only_delays() -> None:
    """An hour without the service: the source stays hidden, and the move is finished afterwards."""
    stage, service = stage_of(image("1", "a"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.move("1", "montreal", "b")
            service.listing_failure = service.details_failure = Unreachable("away")
            await trio.sleep(3600)
            assert names(account) == [("montreal", "b")]
            service.listing_failure = service.details_failure = None
            await trio.sleep(200)
            assert service.names() == [("montreal", "b")]

    play(scene)


ASKED = Creation("montreal", "b", 0, ("a",), "1", 1000, CHECKSUM, move=True)


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_request_interrupted_by_a_crash(carried_out: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The next mount finishes it where the service has begun with it, and else lets it be."""
    stage, service = stage_of(image("1", "a"))
    stage.index.intents[7] = dump_intent(ASKED)
    if carried_out:
        service.rows.append(image("2", "a", "montreal", "queued"))
        service.ready_at["2"] = 60
    service.listing_failure = Unreachable("away")

    async def scene() -> None:
        async with stage.account() as account:
            await trio.sleep(100)
            service.listing_failure = None
            await trio.sleep(200)
            assert service.names() == ([("montreal", "b")] if carried_out else [("toronto", "a")])
            assert names(account) == service.names()
            assert stage.index.intents == {}
            assert not [call for call in service.changes if call[0] == "replicate"]

    play(scene)
    assert carried_out or "was interrupted" in caplog.text


def test_what_an_earlier_mount_wrote_down_keeps_its_number() -> None:
    """New entries of the journal take none of the place of old ones."""
    stage, _ = stage_of(image("1", "a"))
    remark = dump_intent(Remark(("1",), error="It was wrong."))
    stage.index.intents[1] = remark

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.wait_active(await account.replicate("1", "montreal", "b"))
            assert account.error_of("1") == "It was wrong."
            assert list(stage.index.intents.values()) == [remark]

    play(scene)


def test_a_request_of_a_crashed_mount_never_claims_another_ones_image() -> None:
    """Two requests are open, and the only new image is known to be the second one's."""
    stage, service = stage_of(image("1", "a"), image("2", "a", "montreal", "queued"), pending_changes=False)
    stage.index.intents[1] = dump_intent(ASKED)
    stage.index.intents[2] = dump_intent(replace(ASKED, move=False, name="c", image_id="2"))
    service.ready_at["2"] = 60

    async def scene() -> None:
        async with stage.account():
            await trio.sleep(200)
            assert service.names() == [("montreal", "c"), ("toronto", "a")]
            assert stage.index.intents == {}

    play(scene)


def test_a_deletion_of_which_a_crash_lost_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    """The listing of the earlier mount still shows the source; that it is gone is what was wanted."""
    source, replica = image("1", "a"), image("2", "a", "montreal")
    stage, service = stage_of(replica)
    stage.index.save_listing((source, replica), 0)
    stage.index.intents[7] = dump_intent(Deletion("1", "2", 1000, CHECKSUM))

    async def scene() -> None:
        async with stage.account() as account:
            await trio.sleep(100)
            assert names(account) == service.names() == [("montreal", "a")]
            assert stage.index.intents == {}

    play(scene)
    assert "is not deleted" not in caplog.text


def test_an_unfinished_deletion_waits_where_nothing_may_be_deleted() -> None:
    """A mount without deletions shows the image; the next one with them deletes it."""
    stage, service = stage_of(image("1", "a"))
    stage.index.intents[1] = dump_intent(Deletion("1"))

    async def scene() -> None:
        for settings in (AccountSettings(no_delete=True), AccountSettings(read_only=True)):
            async with Stage(service, stage.index, settings).account() as account:
                await account.refresh()
                await trio.sleep(100)
                assert names(account) == [("toronto", "a")]
        assert service.changes == []
        async with stage.account() as account:
            await trio.sleep(100)
            assert service.rows == []
            assert stage.index.intents == {}

    play(scene)


def test_a_read_only_mount_shows_what_is_remembered_and_finishes_nothing() -> None:
    """Errors and origins are shown; the rest of the journal is left as it is."""
    stage, service = stage_of(image("1", "a"), image("2", "a", "montreal", "killed"))
    stage.index.intents[1] = dump_intent(
        Remark(("2",), error="It failed.", failed=True, location="http://h/x")
    )
    stage.index.intents[2] = dump_intent(ASKED)
    stage.settings = AccountSettings(read_only=True)

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            await trio.sleep(100)
            assert (account.error_of("2"), account.location_of("2")) == ("It failed.", "http://h/x")

    play(scene)
    assert service.changes == []
    assert list(stage.index.intents) == [1, 2]


def test_a_replica_id_that_is_not_new_is_not_believed() -> None:
    """A service that answers with the source's own id must not get the source deleted."""

    class Confused(ChangingService):
        def _replicate(self, image_id: str, region: str) -> str:
            return image_id

    stage = Stage(service := Confused([image("1", "a")]))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            with pytest.raises(AnswerLost, match=r"not new.*not asked for again"):
                await account.move("1", "montreal", "b")
            await trio.sleep(100)
            assert names(account) == [("toronto", "a")]
            assert service.rows == [image("1", "a")]

    play(scene)


def test_a_refusal_without_a_reason_stands_for_an_active_image() -> None:
    """Only a pending one is tried again."""
    stage, _service = stage_of(image("1", "a"), fates=(Refused("no"),))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            with pytest.raises(Refused):
                await account.delete("1")
            assert names(account) == [("toronto", "a")]
            assert stage.index.intents == {}

    play(scene)


THEIRS = image("9", "a", "montreal", "queued")


@pytest.mark.parametrize("ends", ["active", "killed", None, "gone"])
def test_a_deletion_waits_for_what_somebody_else_may_be_making_of_the_image(ends: str | None) -> None:
    """Of the same name, in another region, pending: it goes once that is there, and stays where that fails."""
    stage, service = stage_of(image("1", "a"), image("2", "b"))

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await trio.sleep(10)
            service.rows = [*service.rows, THEIRS]
            await account.delete("1")
            await trio.sleep(1800)
            assert ("toronto", "a") not in names(account)
            assert service.changes == []
            if ends == "gone":
                service.rows = [row for row in service.rows if row.image_id != "9"]
            elif ends is not None:
                service.change("9", status=ends)
            await trio.sleep(3600)
            await account.images()
            deleted = ends in ("active", "gone")
            assert service.changes == ([("delete", "1")] if deleted else [])
            assert (("toronto", "a") in names(account)) is not deleted
            assert ("which may be made of it" in (account.error_of("1") or "")) is not deleted
            assert all(b"remark" in raw for raw in stage.index.intents.values())

    play(scene)


@pytest.mark.parametrize(
    "other",
    [
        image("9", "b", "montreal", "queued"),
        image("9", "a", "toronto", "queued"),
        image("9", "a", "montreal", "killed"),
        image("9", "a", "montreal"),
    ],
)
def test_a_deletion_does_not_wait_for_what_cannot_be_made_of_the_image(other: ListedImage) -> None:
    """Another name, the same region, or no longer pending."""
    stage, service = stage_of(image("1", "a"), other)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.delete("1")
            assert service.changes == [("delete", "1")]

    play(scene)


def test_a_deletion_does_not_wait_for_another_size_nor_for_what_this_mount_makes_of_others() -> None:
    """Its details tell, or the journal."""
    stage, service = stage_of(image("1", "a"), image("2", "a", "roubaix"), THEIRS)
    service.details["9"] = replace(details_of(THEIRS), size_bytes=5)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            await account.details("1")
            await account.replicate("2", "toronto", "c")
            await account.delete("1")
            assert ("delete", "1") in service.changes

    play(scene)


def test_an_image_whose_checksum_comes_late_can_be_moved_from_then_on() -> None:
    """What was known of it before does not stand in the way."""
    stage, service = stage_of(image("1", "a"))
    service.details["1"] = replace(details_of(image("1", "a")), checksum=None)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            assert (await account.details("1")).checksum is None
            with pytest.raises(NotSupported):
                await account.move("1", "montreal", "a")
            service.details.clear()
            await account.move("1", "montreal", "a")
            assert names(account) == [("montreal", "a")]

    play(scene)
