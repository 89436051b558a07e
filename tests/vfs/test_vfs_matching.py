"""Which sizes images of other regions have, while listings come and go."""

from __future__ import annotations

import gc
from typing import cast
from weakref import ref

import trio
import trio.testing
from vfs_fakes import FakeAccount, details_of, image, play

from imagefs.account import Account
from imagefs.vfs.matching import Matching

ELSEWHERE = image("1", "one", "montreal")
LARGER = image("2", "two", "montreal")


def test_sizes_of_an_old_listing_are_not_taken_for_those_of_a_newer_one() -> None:
    """They may be found out later than that has come."""
    account = FakeAccount([ELSEWHERE])
    account.known.clear()
    account.hanging["1"] = trio.Event()
    account.all_details["2"] = details_of(LARGER, 5000)
    matching = Matching(cast(Account, account))

    async def scene() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(matching.sizes_elsewhere, "toronto")
            await trio.testing.wait_all_tasks_blocked()
            account.list_anew(ELSEWHERE, LARGER)
            assert await matching.sizes_elsewhere("montreal") == set()
            account.hanging["1"].set()
        assert await matching.sizes_elsewhere("toronto") == {1000, 5000}

    play(scene)


def test_an_old_listing_is_not_kept() -> None:
    """That of a large account takes tens of mebibytes."""
    account = FakeAccount([ELSEWHERE])
    matching = Matching(cast(Account, account))

    async def scene() -> None:
        assert await matching.sizes_elsewhere("toronto") == {1000}
        old = ref(await account.images())
        account.list_anew(LARGER)
        gc.collect()
        assert old() is None

    play(scene)
