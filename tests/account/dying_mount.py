"""A process that changes an account and kills itself after so many steps; run by the tests of crashes.

Arguments: the API's URL, ID and key, the index, the change (``move`` or ``copy``), the image, and after how
many steps to die. A step is a call of the service, or a write of the journal. Ends with 0 where all was done
before that.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import trio
from stored_files import stored_account

from imagefs.account import Account, AccountSettings
from imagefs.api import ServiceClient
from imagefs.core.models import Credentials

T = TypeVar("T")

SETTINGS = AccountSettings(
    poll_first_s=0.02, poll_max_s=0.05, second_look_s=0.05, look_for_s=0.1, pending_ttl_s=0.0
)


class Mortal:
    """Another object whose methods of these names are the steps of a process that dies after *steps*."""

    def __init__(self, inner: object, names: set[str], count: itertools.count[int], steps: int) -> None:
        self._inner = inner
        self._names = names
        self._count = count
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        return self._dying(method) if name in self._names else method

    def _dying(self, method: Callable[..., T]) -> Callable[..., T]:
        def step(*args: Any, **options: Any) -> T:
            answer = method(*args, **options)
            if next(self._count) >= self._steps:
                os.kill(os.getpid(), signal.SIGKILL)
            return answer

        return step


CALLS = {"list_images", "image_details", "rename_image", "delete_image", "replicate_image"}


async def change(account: Account, client: ServiceClient, kind: str, image_id: str) -> None:
    """Move the image, or copy it and delete it, until nothing is left to do."""
    await account.open()
    async with trio.open_nursery() as nursery:
        await nursery.start(account.serve)
        await account.refresh()
        if kind == "move":
            new = await account.move(image_id, "montreal", "moved")
        else:
            new = await account.replicate(image_id, "montreal", "moved")
            await account.delete(image_id)
        await account.wait_active(new)
        while len((await trio.to_thread.run_sync(client.list_images)).images) > 1:  # noqa: ASYNC110  # no event tells
            await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


def main() -> None:
    """Run the process."""
    url, api_id, api_key, index, kind, image_id, steps = sys.argv[1:]
    count = itertools.count(1)
    service = ServiceClient(Credentials(api_id, api_key), url)
    client = Mortal(service, CALLS, count, int(steps))
    with stored_account(Path(index)) as account:
        stored = Mortal(account, {"write_intents"}, count, int(steps))
        trio.run(change, Account(client, stored, settings=SETTINGS), service, kind, image_id)


if __name__ == "__main__":
    main()
