"""A service whose parts do not agree: its listing is ahead of its details, or of what it lets be done."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import trio
from account_changing import ChangingService
from account_fakes import FakeListing, Stage, details_of, image, play

from imagefs.core.models import ImageDetails, ListedImage
from imagefs.errors import ImageFailed, ImagePending, Refused, RefusedUnknownImage, ServerFailed


@dataclass
class Unnamed(ChangingService):
    """Renames nothing before *names_at*, on trio's clock."""

    names_at: float = float("inf")
    refusal: Exception = Refused("image is not active")  # noqa: RUF009  # never changed

    def _rename(self, image_id: str, name: str) -> None:
        if trio.current_time() < self.names_at:
            raise self.refusal
        super()._rename(image_id, name)


@pytest.mark.parametrize("failure", [ServerFailed("500"), Refused("image is killed")])
def test_a_move_whose_replica_fails_is_rolled_back_although_it_cannot_be_renamed(failure: Exception) -> None:
    """The source shows again, whatever the service says of the failed image's name."""
    service = Unnamed([image("1", "a")], ends={"100": "killed"}, refusal=failure)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            new = await account.move("1", "montreal", "b")
            await trio.sleep(300)
            snapshot = await account.images()
            assert sorted(snapshot.by_id) == ["1", new]
            assert "not deleted" in (account.error_of("1") or "")
            assert account.work() == []

    play(scene)


@dataclass
class KnownLater(ChangingService):
    """Lists a new image before *known_at*, on trio's clock, when calls begin to know it."""

    known_at: float = 0.0

    def row(self, image_id: str) -> ListedImage:
        self._check_known(image_id)
        return super().row(image_id)

    def image_details(self, image_id: str, *, deadline_s: float | None = None) -> ImageDetails:
        self._check_known(image_id)
        return super().image_details(image_id, deadline_s=deadline_s)

    def delete_image(self, image_id: str, *, deadline_s: float | None = None) -> None:
        self._check_known(image_id)
        super().delete_image(image_id, deadline_s=deadline_s)

    def _check_known(self, image_id: str) -> None:
        if image_id != "1" and trio.current_time() < self.known_at:
            raise RefusedUnknownImage("invalid image")


def test_a_replica_that_is_removed_before_calls_know_it_is_deleted_when_they_do() -> None:
    """That it is listed by then does not mean that it is gone where a call does not know it."""
    service = KnownLater([image("1", "a")])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            service.known_at = trio.current_time() + 20
            new = await account.replicate("1", "montreal", "a")
            await account.delete(new)
            await trio.sleep(110)
            assert service.names() == [("toronto", "a")]
            assert new not in (await account.images()).by_id
            await trio.sleep(100)
            assert account.work() == []

    play(scene)


class ListsActiveOnly(ChangingService):
    """What is pending or has failed has details, and is not listed."""

    def listing(self) -> FakeListing:
        listing = super().listing()
        return replace(listing, images=tuple(row for row in listing.images if row.status == "active"))


@pytest.mark.parametrize("end", ["active", "killed"])
def test_a_service_that_lists_active_images_only(end: str) -> None:
    """A move ends as its replica does, and if that fails, its source shows again."""
    service = ListsActiveOnly([image("1", "a")], ends={"100": end})

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            new = await account.move("1", "montreal", "b")
            with trio.fail_after(120):
                if end == "active":
                    await account.wait_active(new)
                else:
                    with pytest.raises(ImageFailed, match="killed"):
                        await account.wait_active(new)
            await trio.sleep(300)
            shown = (await account.images()).by_id
            assert (new in shown, "1" in shown) == (end == "active", end == "killed")
            assert account.work() == []

    play(scene)


@pytest.mark.parametrize("refusal", [Refused("image is not active"), RefusedUnknownImage("invalid image")])
def test_an_image_that_can_be_renamed_only_a_while_after_it_is_listed_as_active_gets_its_name(
    refusal: Exception,
) -> None:
    """What refuses to rename it may be behind the listing."""
    service = Unnamed([image("1", "a")], names_at=65, refusal=refusal)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            new = await account.move("1", "montreal", "b")
            await account.wait_active(new)
            assert account.error_of(new) is None
            await trio.sleep(100)
            assert service.names() == [("montreal", "b")]

    play(scene)


def test_an_image_that_cannot_be_renamed_keeps_its_name_and_is_done_before_long() -> None:
    """A move ends all the same."""
    service = Unnamed([image("1", "a")])

    async def scene() -> None:
        async with Stage(service).account() as account:
            await account.images()
            new = await account.move("1", "montreal", "b")
            await trio.sleep(200)
            assert service.names() == [("montreal", "a")]
            assert "could not be renamed" in (account.error_of(new) or "")
            assert account.work() == []

    play(scene)


@pytest.mark.parametrize("move", [False, True])
def test_an_image_whose_details_say_that_it_is_still_being_made_is_not_replicated(move: bool) -> None:
    """They are not complete, and a replica would be compared with them. As soon as they are, it is replicated."""
    service = ChangingService([image("1", "a")])
    unfinished = replace(details_of(image("1", "a")), status="saving", size_bytes=0, checksum=None)
    service.details["1"] = unfinished

    async def scene() -> None:
        async with Stage(service).account() as account:
            replicate = account.move if move else account.replicate
            await account.images()
            await account.details("1")
            with pytest.raises(ImagePending):
                await replicate("1", "montreal", "b")
            assert service.changes == []
            service.details.clear()
            await account.wait_active(await replicate("1", "montreal", "b"))

    play(scene)
