"""Drafts over an account in memory that replicates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
import trio.testing
from vfs_fakes import FakeAccount, MemorySpool

from imagefs.account import Account
from imagefs.core.models import ContentKey
from imagefs.vfs.draft_file import DraftFile
from imagefs.vfs.drafts import Drafts
from imagefs.vfs.fillers import Fillers


class Workshop:
    """Drafts in ``toronto``, and what became of them."""

    def __init__(self, nursery: trio.Nursery, account: FakeAccount) -> None:
        self.account = account
        self.spools: list[MemorySpool] = []
        self.drafts = Drafts(
            cast(Account, account),
            self._new_spool,
            trio.CapacityLimiter(1),
            nursery.start_soon,
        )

    def _new_spool(self) -> MemorySpool:
        self.spools.append(MemorySpool())
        return self.spools[-1]

    def create(self, name: str = "new", creator: Fillers | None = None) -> DraftFile:
        """A draft that is open once."""
        draft = self.drafts.create("toronto", name, 0, creator)
        self.drafts.opened(draft)
        return draft

    def key(self, image_id: str) -> ContentKey:
        """What the image has."""
        key = self.account.all_details[image_id].content_key
        assert key is not None
        return key

    @property
    def shown(self) -> list[str]:
        """The names of the drafts in the directory."""
        return [draft.filename for draft in self.drafts.in_region("toronto")]


def work(account: FakeAccount, scene: Callable[[Workshop], Awaitable[Any]]) -> None:
    """Play *scene*; time passes when nothing else happens."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await scene(Workshop(nursery, account))
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.02))
