"""An account at a service that means ill: nothing is changed that nobody asked for, and every error is one of ours.

``IMAGEFS_FUZZ_EXAMPLES`` is how many histories are tried, other ones each time; without it, they are few,
and always the same.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest
import trio
from account_changing import ChangingService
from account_fakes import FakeListing, Stage, image, play
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagefs.account import Account
from imagefs.core.control_lines import parse_line
from imagefs.core.models import ImageDetails, ListedImage
from imagefs.errors import AnswerLost, ImagefsError, MalformedAnswer, Overloaded, Refused, Unreachable

T = TypeVar("T")

EXAMPLES = int(os.environ.get("IMAGEFS_FUZZ_EXAMPLES", "25"))
SAME_EACH_TIME = "IMAGEFS_FUZZ_EXAMPLES" not in os.environ
REGIONS = ("toronto", "montreal", "roubaix")
NAMES = ("a", "b", "c")
FAILURES: tuple[type[Exception], ...] = (
    MalformedAnswer,
    Unreachable,
    Overloaded,
    Refused,
    MemoryError,
    KeyError,
)


class IllService(ChangingService):
    """Answers as chance has it: cut, old, garbled, late, for another image, or not at all.

    Its changes are those that it was asked for. Calm, it is honest.
    """

    chance: Random
    calm = True

    def listing(self) -> FakeListing:
        listing = super().listing()
        if self.calm:
            return listing
        match self.chance.randrange(6):
            case 0:
                raise self.chance.choice(FAILURES)("no listing")
            case 1:
                rows = tuple(row for row in listing.images if self.chance.random() < 0.7)
                return FakeListing(rows, ("row 1 of the listing makes no sense",))
            case 2:
                old = self.chance.choice(self.history)[1]
                return FakeListing(tuple(old))
            case 3:
                rows = tuple(
                    replace(row, status=self.chance.choice(("", "active", "killed"))) for row in self.rows
                )
                return FakeListing(rows)
        return listing

    def image_details(self, image_id: str, *, deadline_s: float | None = None) -> ImageDetails:
        if self.calm:
            return super().image_details(image_id)
        match self.chance.randrange(5):
            case 0:
                raise self.chance.choice(FAILURES)("no details")
            case 1:
                return replace(super().image_details(image_id), size_bytes=None, problem="no size")
            case 2:
                return replace(super().image_details(image_id), status="", name="", region="")
        return super().image_details(image_id)

    def _change(self, call: tuple[str, ...], carry_out: Callable[[], T]) -> T:
        if self.calm:
            return super()._change(call, carry_out)
        fate = self.chance.randrange(7)
        if fate == 0:
            raise self.chance.choice((Unreachable, Overloaded))("nothing was sent")
        if fate == 1:
            self.changes.append(call)
            raise self.chance.choice((AnswerLost, MemoryError, KeyError))("nothing was done")
        answer = super()._change(call, carry_out)
        if fate == 2:
            raise self.chance.choice((AnswerLost, MemoryError, KeyError))("it was done")
        if fate == 3 and isinstance(answer, str):
            return self.chance.choice((*(row.image_id for row in self.rows), "999"))  # type: ignore[return-value]  # the id of some image
        return answer


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["rename", "delete", "copy", "move", "fetch", "look", "wait"]),
        st.integers(0, 5),
        st.sampled_from(REGIONS),
        st.sampled_from(NAMES),
    ),
    min_size=1,
    max_size=8,
)


async def act(
    account: Account, asked: set[tuple[str, str]], what: str, number: int, region: str, name: str
) -> None:
    """One action on one of the images that are shown; *asked* gets what may be done for it."""
    shown = account.snapshot.images if account.snapshot is not None else ()
    one = shown[number % len(shown)].image_id if shown else "1"
    if what == "rename":
        asked.add(("rename", one))
        await account.rename(one, name)
    elif what == "delete":
        asked.add(("delete", one))
        await account.delete(one)
    elif what == "copy":
        await account.replicate(one, region, name)
    elif what == "move":
        asked.add(("delete", one))
        await account.move(one, region, name)
    elif what == "fetch":
        request = parse_line(f"https://example.com/{name}.iso name={name}")
        assert request is not None
        await account.fetch(request, region)
    elif what == "look":
        await account.refresh()
    else:
        await trio.sleep(30)


@settings(
    max_examples=EXAMPLES, derandomize=SAME_EACH_TIME, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(actions=ACTIONS, seed=st.integers(0, 2**32))
def test_nothing_is_changed_that_nobody_asked_for(
    caplog: pytest.LogCaptureFixture, actions: list[tuple[str, int, str, str]], seed: int
) -> None:
    """Whatever the service answers, and once it is honest again, all that is pending comes to its end."""
    caplog.clear()
    rows: list[ListedImage] = [image(str(n), NAMES[n % 3], REGIONS[n % 2]) for n in range(1, 5)]
    service = IllService(rows, saving_s=5.0)
    service.chance = Random(seed)  # a test's
    stage = Stage(service)
    asked: set[tuple[str, str]] = set()

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            service.calm = False
            for action in actions:
                with suppress(ImagefsError):
                    await act(account, asked, *action)
            service.calm = True
            await trio.sleep(1000)
            await account.refresh()
            assert {row.image_id for row in rows} - {row.image_id for row in service.rows} <= {
                image_id for what, image_id in asked if what == "delete"
            }
            assert account.snapshot is not None
            listed = {row.image_id for row in account.snapshot.images}
            assert listed == {row.image_id for row in service.rows}

    play(scene)
    for call in service.changes:
        if call[0] in ("rename", "delete"):
            assert call[:2] in asked or call[1] in service.created or call[1] == "999", call
    assert not [
        one for one in caplog.records if one.levelno >= logging.ERROR and "by a bug" in one.getMessage()
    ]
