"""Deletions beside what somebody else may be making: they end, and an image is never deleted for nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import trio
from account_changing import LOST, ChangingService
from account_fakes import FakeIndex, FakeListing, Stage, details_of, image, play

from imagefs.account import Account
from imagefs.core.intents import Creation, Deletion, Intent
from imagefs.core.models import ImageDetails
from imagefs.errors import PutOff, Refused, RefusedPermission, RefusedUnknownImage, StoreError, Unreachable

T = TypeVar("T")

THEIRS = image("9", "a", "roubaix", "queued")


def shown(account: Account) -> list[str]:
    """The ids that are shown."""
    assert account.snapshot is not None
    return sorted(account.snapshot.by_id)


def test_removing_a_pending_replica_undoes_its_move_whatever_others_are_making() -> None:
    """Of the replica nothing can be made yet; its source is not deleted after it."""
    service = ChangingService([image("1", "a"), THEIRS])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            new = await account.move("1", "montreal", "a")
            await account.delete(new)
            assert shown(account) == ["1", "9"]
            await trio.sleep(8000)
            assert service.changes[1:] == [("delete", new)]

    play(scene)


def test_removing_a_replica_that_is_not_checked_yet_undoes_its_move_whatever_others_are_making() -> None:
    """It is active, and its details do not say yet what it holds: of it something may be made already."""
    service = ChangingService([image("1", "a"), THEIRS], saving_s=5)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            new = await account.move("1", "montreal", "a")
            service.details[new] = replace(details_of(image(new, "a", "montreal")), checksum=None)
            await trio.sleep(20)
            await account.delete(new)
            assert shown(account) == ["1", "9"]
            service.details.clear()
            service.change("9", status="active")
            await trio.sleep(300)
            assert service.changes[1:] == [("delete", new)]

    play(scene)


class Recording(FakeIndex):
    """Keeps what the journal held after each write."""

    def __init__(self) -> None:
        super().__init__()
        self.journals: list[list[Intent]] = []

    def write_intents(self, saved: Mapping[int, Intent], removed: Iterable[int]) -> None:
        super().write_intents(saved, removed)
        self.journals.append(list(self.load_intents().values()))


@pytest.mark.parametrize("fails", [False, True])
def test_a_move_ends_in_the_same_write_in_which_its_replica_shall_go(fails: bool) -> None:
    """After a crash in between, the move would go on, and both go in the end. A journal that fails changes nothing."""
    index = Recording()
    service = ChangingService([image("1", "a"), THEIRS], saving_s=5)

    async def scene() -> None:
        async with Stage(service, index).account() as account:
            await account.images()
            new = await account.move("1", "montreal", "a")
            service.details[new] = replace(details_of(image(new, "a", "montreal")), checksum=None)
            await trio.sleep(20)
            index.failure = StoreError("no space") if fails else None
            with pytest.raises(StoreError) if fails else nullcontext():
                await account.delete(new)
            assert shown(account) == ([new, "9"] if fails else ["1", "9"])
            for journal in index.journals:
                kinds = [type(intent) for intent in journal if getattr(intent, "image_id", None) == new]
                assert kinds in ([], [Creation], [Deletion])

    play(scene)


class SlowDisk(Stage):
    """The index fails after a second."""

    async def run_sync(self, sync_fn: Callable[..., T], *args: Any, **options: Any) -> T:
        try:
            return await super().run_sync(sync_fn, *args, **options)
        except StoreError:
            await trio.sleep(1)
            raise


def test_a_move_whose_end_cannot_be_written_goes_on_whatever_else_changes_meanwhile() -> None:
    """Its replica is shown, and its source is not."""
    index = FakeIndex()
    service = ChangingService([image("1", "a"), image("2", "b"), THEIRS], saving_s=5)

    async def scene() -> None:
        async with SlowDisk(service, index).account() as account:
            await account.images()
            new = await account.move("1", "montreal", "a")
            service.details[new] = replace(details_of(image(new, "a", "montreal")), checksum=None)
            await trio.sleep(20)
            index.failure = StoreError("no space")

            async def change_another() -> None:
                await trio.sleep(0.5)
                await account.note_failure("2", "damaged")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(change_another)
                with pytest.raises(StoreError):
                    await account.delete(new)
            assert shown(account) == [new, "2", "9"]

    play(scene)


def test_two_pending_images_of_one_name_do_not_wait_for_each_other() -> None:
    """Somebody else's two uploads, both given up."""
    service = ChangingService([image("8", "a", "toronto", "queued"), THEIRS])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            await account.delete("8")
            await account.delete("9")
            assert service.changes == [("delete", "8"), ("delete", "9")]

    play(scene)


@pytest.mark.parametrize("ends", ["active", "killed", "queued"])
def test_a_moved_image_goes_once_nobody_else_makes_anything_of_it(ends: str) -> None:
    """It is in the replica by then, so that it goes as well where theirs has failed, or is pending for an hour."""
    service = ChangingService([image("1", "a"), THEIRS], saving_s=5)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            new = await account.move("1", "montreal", "a")
            await trio.sleep(300)
            assert shown(account) == [new, "9"]
            assert ("delete", "1") not in service.changes
            service.change("9", status=ends)
            await trio.sleep(100 if ends != "queued" else 3700)
            assert shown(account) == [new, "9"]
            assert ("delete", "1") in service.changes

    play(scene)


class KeepingService(ChangingService):
    """Goes on listing what it deletes, as on its way out."""

    def _delete(self, image_id: str) -> None:
        self.change(image_id, status="pending_delete")


def test_a_deletion_does_not_wait_for_what_is_being_deleted() -> None:
    """Both copies of an image are removed, one after the other, whatever the service still lists."""
    service = KeepingService([image("1", "a"), image("2", "a", "montreal")])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            await account.delete("1")
            await trio.sleep(10)
            await account.delete("2")
            assert service.changes == [("delete", "1"), ("delete", "2")]

    play(scene)


@pytest.mark.parametrize(("listed_as", "detailed_as"), [("deleting", None), ("queued", "pending_delete")])
def test_a_deletion_does_not_wait_for_what_others_are_deleting(
    listed_as: str, detailed_as: str | None
) -> None:
    """The listing says so, or the details do."""
    service = ChangingService([image("1", "a"), replace(THEIRS, status=listed_as)])
    if detailed_as is None:
        service.failures["9"] = Unreachable("no answer")
    else:
        service.details["9"] = replace(details_of(THEIRS), status=detailed_as)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            await account.delete("1")
            assert service.changes == [("delete", "1")]

    play(scene)


def test_a_deletion_does_not_wait_for_what_shall_go_itself() -> None:
    """A replica that cannot be deleted yet, and then its source: neither comes back when the replica fails."""
    service = ChangingService([image("1", "a"), image("2", "b"), THEIRS], pending_changes=False)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            await account.delete("9")
            await account.delete("1")
            assert ("delete", "1") in service.changes
            service.change("9", status="killed")
            await trio.sleep(300)
            await account.images()
            assert shown(account) == ["2"]

    play(scene)


@pytest.mark.parametrize("name", ["c", "a"])
def test_what_others_call_a_pending_image_is_its_name(name: str) -> None:
    """It is not taken back, unless it is what the service itself may show for as long as its listings are old."""
    service = ChangingService([image("1", "a")])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            new = await account.replicate("1", "montreal", "b")
            await trio.sleep(10)
            assert service.row(new).name == "b"
            service.change(new, name=name)
            await trio.sleep(100)
            assert service.row(new).name == ("c" if name == "c" else "b")
            assert account.snapshot is not None
            assert account.snapshot.by_id[new].name == service.row(new).name
            assert account.work() == []

    play(scene)


class CuttingService(ChangingService):
    """Leaves one image out of every listing from some time on."""

    cut: str | None = None

    def listing(self) -> FakeListing:
        listing = super().listing()
        return replace(listing, images=tuple(row for row in listing.images if row.image_id != self.cut))


@pytest.mark.parametrize("state", ["active", "queued", "killed", "unreachable"])
def test_a_deletion_does_not_wait_for_ever_for_what_is_listed_no_more(state: str) -> None:
    """Its details tell what became of it; without them the image is shown again in the end."""
    service = CuttingService([image("1", "a"), THEIRS])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            await account.delete("1")
            service.cut = "9"
            if state == "unreachable":
                service.failures["9"] = Unreachable("no answer")
            else:
                service.change("9", status=state)
            await trio.sleep(300)
            await account.images()
            assert service.changes == ([("delete", "1")] if state == "active" else [])
            assert (shown(account) == ["1"]) is (state == "killed")
            await trio.sleep(7200)
            await account.images()
            assert (shown(account) == ["1"]) is (state != "active")

    play(scene)


def test_details_that_never_come_do_not_hold_up_a_deletion() -> None:
    """They are asked for together, and not for long: what they do not tell may be so."""
    many = [image(str(number), "a", "montreal", "queued") for number in range(10, 15)]
    service = ChangingService([image("1", "a"), *many])
    service.failures = {one.image_id: Unreachable("no answer") for one in many}
    stage = Stage(service)
    stage.failure_latency_s = 20.0

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            began_at = trio.current_time()
            await account.delete("1")
            assert trio.current_time() < began_at + 12
            assert shown(account) == [one.image_id for one in many]

    play(scene)


def test_a_template_is_no_deleted_image_although_the_service_was_busy_before() -> None:
    """503, then "invalid image" for what is there: refused, and shown."""
    service = ChangingService(
        [image("1", "a")], fates=deque([PutOff("503"), RefusedUnknownImage("invalid image")])
    )

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            with pytest.raises(RefusedPermission):
                await account.delete("1")
            assert shown(account) == ["1"]

    play(scene)


def test_an_image_of_which_nothing_can_be_learnt_is_not_hidden() -> None:
    """ "invalid image", and no details just now: it may be a template."""
    service = ChangingService([image("1", "a")], fates=deque([RefusedUnknownImage("invalid image")]))
    service.failures["1"] = Unreachable("no answer")

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            with pytest.raises(Refused):
                await account.delete("1")
            service.failures.clear()
            await trio.sleep(40)
            await account.images()
            assert shown(account) == ["1"]

    play(scene)


def test_a_deferred_deletion_whose_answer_is_lost_stays_hidden_whatever_older_listings_say() -> None:
    """A listing without it has ended the deletion; one that is older has it again."""
    service = ChangingService([image("1", "a"), image("2", "b"), THEIRS])
    service.ready_at["9"] = 20

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            await account.delete("1")
            before = list(service.rows)
            service.fates.append(LOST)
            await trio.sleep(120)
            assert len(service.changes) == 1
            assert account.work() == []
            service.failures["1"] = RefusedUnknownImage("invalid image")
            service.rows = before
            await trio.sleep(1)
            await account.refresh()
            assert "1" not in shown(account)

    play(scene)


class LateService(ChangingService):
    """Neither lists nor deletes a new image in its first ten seconds; ``tells`` is whether it gives its details."""

    tells = False

    def _is_late(self, image_id: str) -> bool:
        ready_at = self.ready_at.get(image_id)
        return ready_at is not None and trio.current_time() < ready_at - self.saving_s + 10

    def listing(self) -> FakeListing:
        listing = super().listing()
        return replace(
            listing, images=tuple(row for row in listing.images if not self._is_late(row.image_id))
        )

    def image_details(self, image_id: str, *, deadline_s: float | None = None) -> ImageDetails:
        if self._is_late(image_id) and not self.tells:
            raise RefusedUnknownImage("invalid image")
        return super().image_details(image_id)

    def _delete(self, image_id: str) -> None:
        if self._is_late(image_id):
            raise RefusedUnknownImage("invalid image")
        super()._delete(image_id)


@pytest.mark.parametrize("tells", [False, True])
def test_a_new_image_that_the_service_does_not_know_yet_is_deleted_all_the_same(tells: bool) -> None:
    """It is not there again when it has appeared, nor has its source gone in its place."""
    service = LateService([image("1", "a")])
    service.tells = tells

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            new = await account.move("1", "montreal", "b")
            await account.delete(new)
            assert shown(account) == ["1"]
            await trio.sleep(1000)
            assert [row.image_id for row in service.rows] == ["1"]

    play(scene)
