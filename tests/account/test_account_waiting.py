"""Callers that wait for a change: what a busy service puts off, and what goes on when they leave or time is up."""

from __future__ import annotations

from collections import deque

import pytest
import trio
from account_changing import CHANGING, CREATING, DROPPED, LOST, ChangingService, shown, stage_of
from account_fakes import FakeListing, Stage, image, play

from imagefs.errors import (
    AnswerLost,
    Busy,
    PutOff,
    Unreachable,
)


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
