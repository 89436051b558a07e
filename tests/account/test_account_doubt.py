"""Answers that are cut, old, garbled or about another image: nothing is taken for done, failed or new on their word."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest
import trio
from account_changing import DROPPED, LOST, ChangingService
from account_fakes import FakeListing, Stage, details_of, image, play

from imagefs.account import Account
from imagefs.core.models import ImageDetails
from imagefs.errors import AnswerLost, MalformedAnswer, NotFound, Overloaded, Refused, RefusedUnknownImage


class CutService(ChangingService):
    """Leaves images out of its next listings: ``cuts`` says which, listing by listing."""

    cuts: deque[set[str]]

    def listing(self) -> FakeListing:
        listing = super().listing()
        missing = self.cuts.popleft() if self.cuts else set()
        return FakeListing(tuple(row for row in listing.images if row.image_id not in missing))


def cut_service(*rows: object, fates: tuple[object, ...] = (), **options: object) -> CutService:
    """A service of these images whose listings can be cut."""
    service = CutService(list(rows), fates=deque(fates), **options)
    service.cuts = deque()
    return service


class StrictService(ChangingService):
    """Refuses a rename to the name that the image has."""

    def _rename(self, image_id: str, name: str) -> None:
        if self.row(image_id).name == name:
            raise Refused("the name has not changed")
        super()._rename(image_id, name)


def shown(account: Account) -> list[str]:
    """The ids of what is shown."""
    assert account.snapshot is not None
    return [one.image_id for one in account.snapshot.images]


def test_a_cut_listing_is_no_proof_of_a_deletion() -> None:
    """The image is missing from the listing after a lost answer, and still there: it is deleted once more."""
    service = cut_service(image("1"), image("2"), fates=(DROPPED,))

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            service.cuts = deque([{"1"}])
            await account.delete("1")
            assert [row.image_id for row in service.rows] == ["2"]
            assert shown(account) == ["2"]

    play(scene)


def test_a_cut_listing_does_not_fail_a_rename() -> None:
    """The image is missing from the listing after a lost answer, but its details tell."""
    service = cut_service(image("1", "old"), fates=(LOST,))

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            service.cuts = deque([{"1"}])
            await account.rename("1", "new")
            assert service.changes == [("rename", "1", "new")]

    play(scene)


def test_an_image_that_was_missing_from_a_cut_listing_is_not_the_new_one() -> None:
    """The listing before the request was cut, its answer was lost: the image that was there before is left alone."""
    there = image("9", "a", "montreal")
    service = cut_service(image("1", "a"), there, fates=(DROPPED, DROPPED))

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            service.cuts = deque([{"9"}])
            with pytest.raises(AnswerLost):
                await account.replicate("1", "montreal", "b")
            await trio.sleep(100)
            assert there in service.rows
            assert not any(change[0] == "rename" for change in service.changes)

    play(scene)


def test_an_image_that_this_mount_made_before_is_not_made_again() -> None:
    """Old listings do not show the first replica while the second is asked for, whose answer is lost."""
    service = cut_service(image("1", "a"), saving_s=0.0)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            await account.replicate("1", "montreal", "b")
            await account.wait_active("100")
            service.cuts = deque([{"100"}, {"100"}])
            await account.refresh()
            service.fates = deque([DROPPED, DROPPED])
            with pytest.raises(AnswerLost):
                await account.replicate("1", "montreal", "c")
            assert service.names() == [("montreal", "b"), ("toronto", "a")]

    play(scene)


def test_a_request_whose_answer_is_lost_is_not_repeated_while_listings_are_old() -> None:
    """The new image is listed some seconds late; it is found, and not made twice."""
    service = ChangingService([image("1", "a")], fates=deque([LOST]), lag_s=8)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            await trio.sleep(30)
            assert await account.replicate("1", "montreal", "b") == "100"
            assert service.created == ["100"]

    play(scene)


@pytest.mark.parametrize("named", ["1", "2", "3"])
@pytest.mark.parametrize("move", [False, True])
def test_an_answer_that_names_an_image_that_was_there_is_not_believed(named: str, move: bool) -> None:
    """Neither the source, nor an image of the target's region, nor one of another is renamed or deleted."""
    rows = [image("1", "a"), image("2", "a", "montreal"), image("3", "c", "roubaix")]

    class Liar(ChangingService):
        def replicate_image(self, image_id: str, region: str, *, deadline_s: float | None = None) -> str:
            self.changes.append(("replicate", image_id, region))
            return named

    service = Liar(list(rows))

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            with pytest.raises(AnswerLost):
                await (account.move if move else account.replicate)("1", "montreal", "b")
            await trio.sleep(300)
            assert service.rows == rows
            assert service.changes == [("replicate", "1", "montreal")]
            assert shown(account) == ["1", "2", "3"]

    play(scene)


def test_an_answer_that_names_an_image_of_another_region_renames_nothing() -> None:
    """It was not listed before, so that it may be new, but it is not what was asked for."""
    theirs = image("7", "theirs", "roubaix")

    class Liar(ChangingService):
        def replicate_image(self, image_id: str, region: str, *, deadline_s: float | None = None) -> str:
            self.rows = [*self.rows, theirs]
            return "7"

    service = Liar([image("1", "a")])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            await account.move("1", "montreal", "b")
            await trio.sleep(300)
            assert service.rows == [image("1", "a"), theirs]
            assert shown(account) == ["1", "7"]

    play(scene)


def garbled(details: ImageDetails, how: str) -> ImageDetails:
    """Details of which something did not arrive as it should."""
    return {
        "no size": replace(details, size_bytes=None),
        "no checksum": replace(details, checksum=None, problem="the service gives a checksum that is no MD5"),
        "no status": replace(details, status=""),
    }[how]


@pytest.mark.parametrize("how", ["no size", "no checksum", "no status", "malformed", "overloaded"])
def test_garbled_details_do_not_end_a_move(how: str) -> None:
    """Wherever they arrive in it, they are asked for again."""

    class Garbling(ChangingService):
        garbled_left = 0

        def image_details(self, image_id: str, *, deadline_s: float | None = None) -> ImageDetails:
            details = super().image_details(image_id)
            if self.garbled_left and image_id in self.created:
                self.garbled_left -= 1
                if how in ("malformed", "overloaded"):
                    raise MalformedAnswer("HTML") if how == "malformed" else Overloaded("busy")
                return garbled(details, how)
            return details

    async def scene() -> None:
        for left in (1, 2):
            service = Garbling([image("1", "a")])
            service.garbled_left = left
            async with Stage(service).account() as account:
                await account.refresh()
                await account.move("1", "montreal", "b")
                await trio.sleep(300)
                assert service.names() == [("montreal", "b")]

    play(scene)


def test_a_replica_whose_details_never_make_sense_does_not_hide_its_source_for_ever() -> None:
    """After a while the move is given up, and nothing is deleted."""

    class Mute(ChangingService):
        def image_details(self, image_id: str, *, deadline_s: float | None = None) -> ImageDetails:
            details = super().image_details(image_id)
            return garbled(details, "no checksum") if image_id in self.created else details

    service = Mute([image("1", "a")])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            await account.move("1", "montreal", "b")
            await trio.sleep(100)
            assert "1" not in shown(account)
            await trio.sleep(300)
            assert "1" in shown(account)
            assert not any(change[0] == "delete" for change in service.changes)

    play(scene)


def test_a_name_that_is_refused_because_it_is_there_already_is_no_failure() -> None:
    """The first rename's answer was lost, the listing is old, and the service refuses to do it again."""

    async def scene() -> None:
        service = StrictService([image("1", "a")], fates=deque([None, LOST]), saving_s=0.0, lag_s=4)
        async with Stage(service).account() as account:
            await account.refresh()
            await account.replicate("1", "montreal", "b")
            await account.wait_active("100")
            assert account.error_of("100") is None
            assert service.names() == [("montreal", "b"), ("toronto", "a")]

    play(scene)


def test_a_rename_refused_when_it_is_repeated_is_a_success_where_it_was_done() -> None:
    """Neither listing nor details show it at first."""

    async def scene() -> None:
        service = StrictService([image("1", "a")], fates=deque([LOST]), lag_s=2)
        async with Stage(service).account() as account:
            await account.refresh()
            await trio.sleep(3)
            service.details_failure = Overloaded("busy")
            await account.rename("1", "b")
            assert shown(account) == ["1"]
            assert service.names() == [("toronto", "b")]
            assert len(service.changes) == 2

    play(scene)


def test_a_put_off_deletion_that_is_refused_because_it_was_done_shows_nothing_again() -> None:
    """The answer was lost, the listing is old, and the service has its own words for an image that is gone."""

    class Wordy(ChangingService):
        def _delete(self, image_id: str) -> None:
            if all(row.image_id != image_id for row in self.rows):
                raise Refused("the image was deleted before")
            super()._delete(image_id)

    async def scene() -> None:
        service = Wordy([image("1", "a")], fates=deque([None, None, LOST]), lag_s=6)
        async with Stage(service).account() as account:
            await account.refresh()
            await account.move("1", "montreal", "b")
            for _ in range(200):
                assert "1" not in shown(account)
                await trio.sleep(1)
            assert service.names() == [("montreal", "b")]
            assert account.error_of("1") is None

    play(scene)


def test_one_listing_without_an_image_does_not_end_a_wait_for_it() -> None:
    """Only an image that the service does not know any more is gone."""
    service = cut_service(image("1", "a", status="saving"))

    async def scene() -> None:
        async with Stage(service).account() as account, trio.open_nursery() as nursery:
            await account.refresh()
            service.cuts = deque([{"1"}, {"1"}])

            async def finish() -> None:
                await trio.sleep(20)
                service.change("1", status="active")

            nursery.start_soon(finish)
            await account.wait_active("1")
            service.change("1", status="saving")
            await account.refresh()
            service.rows = []
            with pytest.raises(NotFound):
                await account.wait_active("1")

    play(scene)


def test_a_remark_outlives_a_cut_listing() -> None:
    """What went wrong with an image is remembered for as long as the service knows it."""
    service = cut_service(image("1", "a"), ends={"100": "killed"}, saving_s=1.0)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            await account.replicate("1", "montreal", "b")
            await trio.sleep(60)
            error = account.error_of("100")
            assert error is not None
            service.cuts = deque([{"100"}])
            await account.refresh()
            await trio.sleep(10)
            assert account.error_of("100") == error

    play(scene)


def test_a_change_is_shown_whatever_order_old_and_new_listings_come_in() -> None:
    """A service that answers from several places may show a change, and then what was before it."""
    service = ChangingService([image("1", "a"), image("2")])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            before = list(service.rows)
            await account.rename("1", "b")
            await account.delete("2")
            after = list(service.rows)
            for rows in (after, before, after, before):
                service.rows = rows
                await trio.sleep(1)
                await account.refresh()
                assert account.snapshot is not None
                assert [(one.image_id, one.name) for one in account.snapshot.images] == [("1", "b")]

    play(scene)


def test_an_image_whose_id_is_given_anew_is_removed_although_the_service_does_not_know_it_yet() -> None:
    """That another image was listed by this id does not mean that this one is gone."""
    service = cut_service(image("1", "a"), saving_s=5)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            new = await account.replicate("1", "montreal", "b")
            await account.wait_active(new)
            await account.delete(new)
            service.next_id = int(new)
            assert await account.replicate("1", "roubaix", "c") == new
            service.cuts = deque([{new}])
            service.failures[new] = RefusedUnknownImage("invalid image")
            service.fates = deque([RefusedUnknownImage("invalid image")])
            await account.delete(new)
            service.failures.clear()
            await trio.sleep(120)
            assert service.names() == [("toronto", "a")]

    play(scene)


class LingeringService(ChangingService):
    """Goes on listing what it has deleted, as ``listed_as``, with details of that status, or None for unknown."""

    listed_as = "active"
    detailed_as: str | None = None

    def _delete(self, image_id: str) -> None:
        if self.row(image_id).status in ("deleting", "pending_delete"):
            raise Refused("it is on its way out")
        self.change(image_id, status=self.listed_as)
        self.failures[image_id] = RefusedUnknownImage("invalid image")
        if self.detailed_as is not None:
            del self.failures[image_id]
            self.details[image_id] = replace(details_of(self.row(image_id)), status=self.detailed_as)


async def looking(account: Account, for_s: int) -> list[list[str]]:
    """What is shown, looked at every ten seconds for so long."""
    seen = []
    for _ in range(for_s // 10):
        await trio.sleep(10)
        await account.images()
        seen.append(shown(account))
    return seen


@pytest.mark.parametrize(
    ("listed_as", "detailed_as"),
    [("active", None), ("pending_delete", "active"), ("active", "deleting"), ("deleted", "deleted")],
)
@pytest.mark.parametrize("kind", ["delete", "move"])
def test_what_is_listed_long_after_its_deletion_stays_hidden(
    kind: str, listed_as: str, detailed_as: str | None
) -> None:
    """For hours, as long as the service says in any way that it goes or is gone; then it is forgotten."""
    service = LingeringService([image("1"), image("2")], saving_s=0.0)
    service.listed_as, service.detailed_as = listed_as, detailed_as

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            if kind == "delete":
                await account.delete("1")
            else:
                await account.wait_active(await account.move("1", "montreal", "b"))
                await trio.sleep(60)
                assert ("delete", "1") in service.changes
            assert all("1" not in ids for ids in await looking(account, 7200))
            service.rows = [row for row in service.rows if row.image_id != "1"]
            await looking(account, 1200)
            asked = len(service.asked)
            await looking(account, 600)
            assert len(service.asked) == asked

    play(scene)


def test_what_was_deleted_and_is_there_long_after_is_shown_again(caplog: pytest.LogCaptureFixture) -> None:
    """A living image is not hidden for ever: it says why it is there."""
    service = LingeringService([image("1"), image("2")])
    service.detailed_as = "active"

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            await account.delete("1")
            assert all(ids == ["2"] for ids in await looking(account, 590))
            assert (await looking(account, 120))[-1] == ["1", "2"]
            assert "said that it was deleted" in (account.error_of("1") or "")

    play(scene)
    assert "is shown again" in caplog.text


def test_a_lost_answer_to_a_deletion_that_is_under_way_is_a_success() -> None:
    """The image is there, and its details say that it goes: it is not deleted once more, which would be refused."""
    service = LingeringService([image("1")], fates=deque([LOST]))
    service.listed_as = service.detailed_as = "deleting"

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.refresh()
            await account.delete("1")
            assert service.changes == [("delete", "1")]
            assert shown(account) == []

    play(scene)


@pytest.mark.parametrize("status", ["deleted", "deleting"])
def test_a_lost_answer_at_the_end_of_a_move_whose_source_goes_slowly_is_a_success(status: str) -> None:
    """That the source does not hold any more what it did, is because it is being deleted: it is not shown again."""
    service = LingeringService([image("1", "a")], saving_s=0.0, fates=deque([None, None, LOST]))
    service.listed_as = service.detailed_as = status
    stage = Stage(service)

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            await account.wait_active(await account.move("1", "montreal", "b"))
            assert all(ids == ["100"] for ids in await looking(account, 300))
            assert ("delete", "1") in service.changes
            assert stage.index.intents == {}

    play(scene)


@pytest.mark.parametrize("pause_s", [0, 1000])
def test_an_id_that_is_given_anew_after_a_deletion_is_a_new_images(pause_s: int) -> None:
    """Some services number by the highest id that there is."""
    service = ChangingService([image("1", "a")], saving_s=5)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            new = await account.replicate("1", "montreal", "b")
            await account.wait_active(new)
            await account.delete(new)
            await trio.sleep(pause_s)
            await account.refresh()
            service.next_id = int(new)
            assert await account.replicate("1", "roubaix", "c") == new
            await account.wait_active(new)
            assert account.snapshot is not None
            assert (account.snapshot.by_id[new].region, account.snapshot.by_id[new].name) == ("roubaix", "c")
            assert service.names() == [("roubaix", "c"), ("toronto", "a")]

    play(scene)
