"""Whatever answers are lost, whenever the mount crashes: no image is lost, and none is made twice."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import suppress
from dataclasses import replace

import trio
from account_changing import AWAY, DROPPED, LOST, ChangingService
from account_fakes import FakeIndex, Stage, details_of, image, play
from hypothesis import given, settings
from hypothesis import strategies as st

from imagefs.account import Account
from imagefs.core.control_lines import parse_line
from imagefs.core.models import ImageDetails
from imagefs.errors import ImagefsError, Refused, Unreachable

REGIONS = st.sampled_from(["toronto", "montreal", "roubaix"])
WHICH = st.integers(0, 5)
NAMES = st.sampled_from(["a", "b", "c"])
FATES = st.sampled_from([None, None, LOST, DROPPED, AWAY, Refused("not now")])
STEPS = st.one_of(
    st.tuples(st.sampled_from(["replicate", "move"]), WHICH, REGIONS, NAMES),
    st.tuples(st.sampled_from(["delete"]), WHICH),
    st.tuples(st.just("rename"), WHICH, NAMES),
    st.tuples(st.just("fetch"), REGIONS),
    st.tuples(st.just("fates"), st.lists(FATES, max_size=4)),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 0.2, 1, 5, 20, 100])),
    st.tuples(st.just("away"), st.booleans()),
    st.tuples(st.just("fail"), st.sampled_from(["killed", "unlike"])),
    st.tuples(st.just("pending_changes"), st.booleans()),
    st.tuples(st.just("crash")),
)
FETCH = parse_line("https://host/f.iso")


class Lineages(ChangingService):
    """A service that knows which content each image has, and has counted requests and images."""

    def __init__(self) -> None:
        super().__init__(
            [image("1", "a"), image("2", "b", "montreal"), image("3", "a", "roubaix")], saving_s=30
        )
        self.content = {"1": "one", "2": "two", "3": "three"}
        self.made: Counter[str] = Counter()
        self.next_end = "active"

    def image_details(self, image_id: str, *, deadline_s: float | None = None) -> ImageDetails:
        details = super().image_details(image_id)
        if details.checksum is None:
            return details
        own = f"{self.content[image_id]:0>32}" if image_id not in self.unlike else "f" * 32
        return replace(details_of(self.row(image_id)), checksum=own)

    def _replicate(self, image_id: str, region: str) -> str:
        new = super()._replicate(image_id, region)
        self.content[new] = self.content[image_id]
        self.made[self.content[image_id]] += 1
        return new

    def _create(self, name: str, region: str) -> str:
        new = super()._create(name, region)
        self.content[new] = f"new{new}"
        if self.next_end == "killed":
            self.ends[new] = "killed"
        elif self.next_end == "unlike":
            self.unlike.add(new)
        self.next_end = "active"
        return new

    def good_contents(self) -> set[str]:
        """The contents of which an active image is there as it should be."""
        return {
            self.content[row.image_id]
            for row in self.rows
            if row.status == "active" and row.image_id not in self.unlike
        }


class Person:
    """Does what a history says, and remembers what was asked for."""

    def __init__(self, service: Lineages) -> None:
        self.service = service
        self.asked: Counter[str] = Counter()
        self.fetches = 0
        self.given_up: set[str] = set()

    async def act(self, account: Account, step: tuple) -> None:
        """One step; what is refused or lost is an error like any other to a person."""
        service = self.service
        kind, *rest = step
        if kind == "fates":
            service.fates = deque(rest[0])
        elif kind == "wait":
            await trio.sleep(rest[0])
        elif kind == "away":
            away = Unreachable("away") if rest[0] else None
            service.listing_failure = service.details_failure = away
        elif kind == "fail":
            service.next_end = rest[0]
        elif kind == "pending_changes":
            service.pending_changes = rest[0]
        elif kind == "fetch":
            assert FETCH is not None
            self.fetches += 1
            await account.fetch(FETCH, rest[0])
        else:
            await self._change(account, kind, *rest)

    async def _change(self, account: Account, kind: str, which: int, *rest: str) -> None:
        assert account.snapshot is not None
        shown = account.snapshot.images
        if not shown:
            return
        target = shown[which % len(shown)].image_id
        content = self.service.content[target]
        if kind == "delete":
            self.given_up.add(content)
            await account.delete(target)
        elif kind == "rename":
            await account.rename(target, rest[0])
        else:
            self.asked[content] += 1
            await (account.move if kind == "move" else account.replicate)(target, *rest)


@settings(deadline=None, max_examples=300)
@given(st.lists(STEPS, max_size=20))
def test_no_image_is_lost_and_none_is_doubled(history: list[tuple]) -> None:
    """Every content that nobody has deleted an image of is there; none has more replicas than were asked for.

    And in the end the account is at rest: what is shown is what is there, and the journal has nothing open.
    """
    service, index = Lineages(), FakeIndex()
    person = Person(service)
    contents = {"one", "two", "three"}

    def check() -> None:
        assert contents - person.given_up <= service.good_contents()
        assert all(service.made[content] <= person.asked[content] for content in service.made)
        fetched = {content for content in service.content.values() if content.startswith("new")}
        assert len(fetched) <= person.fetches

    async def run(steps: list[tuple]) -> list[tuple]:
        """One mount, up to its crash; the steps that are left."""
        async with Stage(service, index).account() as account:
            with suppress(ImagefsError):
                await account.images()
            async with trio.open_nursery() as nursery:

                async def act(step: tuple) -> None:
                    with suppress(ImagefsError):
                        await person.act(account, step)
                    check()

                for number, step in enumerate(steps):
                    if step[0] == "crash":
                        nursery.cancel_scope.cancel()
                        return steps[number + 1 :]
                    if account.snapshot is None:
                        continue
                    if step[0] in ("replicate", "move", "delete", "rename", "fetch"):
                        nursery.start_soon(act, step)
                        await trio.sleep(0.02)
                    else:
                        await act(step)
        return []

    async def scene() -> None:
        steps = history
        while steps:
            steps = await run(steps)
        service.listing_failure = service.details_failure = None
        service.fates.clear()
        service.pending_changes = True
        async with Stage(service, index).account() as account:
            await trio.sleep(400)
            check()
            await account.refresh()
            await trio.sleep(20)
            shown = await account.refresh()
            assert shown.images == tuple(service.rows)
            assert all(b"remark" in raw for raw in index.intents.values())

    play(scene)
