"""An account in real time on an emulated service, through the product's own client and index."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import dying_mount
import trio
from stored_files import stored_account

from imagefs.account import Account
from imagefs.account.stored_account import StoredAccount
from imagefs.api import Limits, ServiceClient
from imagefs.core.models import Credentials
from imagefs.emulator import Emulator


def places(service: Emulator) -> list[tuple[str, str]]:
    """(region, name) of the images that are in the account."""
    return sorted((one.region, one.name) for one in service.images())


def shown(account: Account) -> list[tuple[str, str]]:
    """(region, name) of the images that the mount shows."""
    assert account.snapshot is not None
    return sorted((one.region, one.name) for one in account.snapshot.images)


def play_on(
    service: Emulator, path: Path, scene: Callable[[Account, StoredAccount], Awaitable[None]]
) -> None:
    """Run *scene* on an account that is open and served, with its index at *path*."""
    limits = Limits(backoff_first_s=0.01)
    client = ServiceClient(Credentials(service.api_id, service.api_key), service.api_url, limits=limits)

    async def main(stored: StoredAccount) -> None:
        account = Account(client, stored, settings=dying_mount.SETTINGS)
        await account.open()
        async with trio.open_nursery() as nursery:
            await nursery.start(account.serve)
            with trio.fail_after(60):
                await account.refresh()
                await scene(account, stored)
            nursery.cancel_scope.cancel()

    try:
        with stored_account(path) as stored:
            trio.run(main, stored)
    finally:
        client.close()


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what no event tells."""
    while not is_so():  # noqa: ASYNC110  # it happens in another process
        await trio.sleep(0.01)
