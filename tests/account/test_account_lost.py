"""Changes whose answers are lost: what became of them is looked for, and nothing new is asked for twice."""

from __future__ import annotations

import pytest
import trio
from account_changing import CREATING, DROPPED, LOST, ChangingService, shown, stage_of
from account_fakes import Stage, image, play

from imagefs.account import Account
from imagefs.errors import (
    AnswerLost,
    Overloaded,
)


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
