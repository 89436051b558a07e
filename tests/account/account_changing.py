"""A service in virtual time whose images can be changed, and whose answers can be lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import trio
from account_fakes import FakeListing, FakeService, Stage

from imagefs.account import Account
from imagefs.core.control_lines import parse_line
from imagefs.core.models import ImageDetails, ListedImage
from imagefs.errors import AnswerLost, Refused, RefusedUnknownImage, Unreachable

T = TypeVar("T")

LOST = "the answer is lost"
DROPPED = "nothing is done, and no answer comes"
AWAY = "nothing can be sent"


@dataclass
class ChangingService(FakeService):
    """Images turn active *saving_s* after their request.

    ``fates`` befall the next changes, one each: LOST, DROPPED, AWAY, an exception, or None. ``lag_s`` is how
    far listings are behind. ``ends`` are the statuses that replicas end with, by id, where not active.
    ``pending_changes`` tells whether a pending image can be renamed and deleted.
    """

    saving_s: float = 60.0
    lag_s: float = 0.0
    pending_changes: bool = True
    fates: deque[object] = field(default_factory=deque)
    ends: dict[str, str] = field(default_factory=dict)
    unlike: set[str] = field(default_factory=set)
    changes: list[tuple[str, ...]] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    history: list[tuple[float, list[ListedImage]]] = field(default_factory=list)
    ready_at: dict[str, float] = field(default_factory=dict)
    next_id: int = 100

    def settle(self) -> None:
        """Let the images whose time has come turn active."""
        for image_id, at in tuple(self.ready_at.items()):
            if trio.current_time() >= at:
                del self.ready_at[image_id]
                self.change(image_id, status=self.ends.get(image_id, "active"))

    def row(self, image_id: str) -> ListedImage:
        """An image as it is now; raises Refused."""
        self.settle()
        for row in self.rows:
            if row.image_id == image_id:
                return row
        raise RefusedUnknownImage("invalid image")

    def names(self) -> list[tuple[str, str]]:
        """(region, name) of all images."""
        return sorted((row.region, row.name) for row in self.rows)

    def listing(self) -> FakeListing:
        """The rows as they were ``lag_s`` ago."""
        self.settle()
        now = trio.current_time()
        self.history.append((now, list(self.rows)))
        rows = self.rows
        if self.lag_s:
            rows = next(
                (old for at, old in reversed(self.history) if at <= now - self.lag_s), self.history[0][1]
            )
        return FakeListing(tuple(rows), self.problems)

    def image_details(self, image_id: str, *, deadline_s: float | None = None) -> ImageDetails:
        self.settle()
        details = super().image_details(image_id)
        return replace(details, checksum="0" * 32) if image_id in self.unlike else details

    def rename_image(self, image_id: str, name: str, *, deadline_s: float | None = None) -> None:
        self._change(("rename", image_id, name), lambda: self._rename(image_id, name))

    def delete_image(self, image_id: str, *, deadline_s: float | None = None) -> None:
        self._change(("delete", image_id), lambda: self._delete(image_id))

    def replicate_image(self, image_id: str, region: str, *, deadline_s: float | None = None) -> str:
        return self._change(("replicate", image_id, region), lambda: self._replicate(image_id, region))

    def fetch_image(
        self,
        *,
        region: str,
        name: str,
        location: str,
        image_format: str,
        virtio: bool,
        deadline_s: float | None = None,
    ) -> str:
        return self._change(("fetch", region, name, location), lambda: self._create(name, region))

    def _change(self, call: tuple[str, ...], carry_out: Callable[[], T]) -> T:
        self.history.append((trio.current_time(), list(self.rows)))
        fate = self.fates.popleft() if self.fates else None
        if fate == AWAY or (fate is None and self.listing_failure is not None):
            raise Unreachable("nothing was sent")
        self.changes.append(call)
        if isinstance(fate, Exception):
            raise fate
        if fate == DROPPED:
            raise AnswerLost("no answer")
        answer = carry_out()
        if fate == LOST:
            raise AnswerLost("no answer")
        return answer

    def _rename(self, image_id: str, name: str) -> None:
        self._check_changeable(image_id)
        self.change(image_id, name=name)

    def _delete(self, image_id: str) -> None:
        self._check_changeable(image_id)
        self.rows = [row for row in self.rows if row.image_id != image_id]
        self.ready_at.pop(image_id, None)

    def _check_changeable(self, image_id: str) -> None:
        if self.row(image_id).status == "queued" and not self.pending_changes:
            raise Refused("image is not active")

    def _replicate(self, image_id: str, region: str) -> str:
        return self._create(self.row(image_id).name, region)

    def _create(self, name: str, region: str) -> str:
        image_id = str(self.next_id)
        self.next_id += 1
        self.rows = [*self.rows, ListedImage(image_id, name, region, "queued")]
        self.ready_at[image_id] = trio.current_time() + self.saving_s
        self.created.append(image_id)
        return image_id


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


FETCH = parse_line("https://me:secret@host/pub/debian.iso?token=1 name=d.iso")

CREATING = {
    "replicate": lambda account: account.replicate("1", "montreal", "b"),
    "move": lambda account: account.move("1", "montreal", "b"),
    "fetch": lambda account: account.fetch(FETCH, "montreal"),
}
"""Each change that makes an image: of image 1, which is called a and in toronto."""

CHANGING = CREATING | {
    "rename": lambda account: account.rename("1", "b"),
    "delete": lambda account: account.delete("1"),
}
"""Each change, of the same image."""
