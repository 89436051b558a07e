"""What an account holds in memory does not grow with all that it has ever seen and done."""

from __future__ import annotations

import gc
import types
import weakref
from collections import deque

import pytest
import trio
from account_changing import LOST, ChangingService
from account_fakes import Stage, image, play

from imagefs.account import Account
from imagefs.account.threads import Threads
from imagefs.errors import MalformedAnswer

FOREIGN = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type)
"""What leads to everything."""

ROUNDS = 40


def entries(account: Account) -> int:
    """How many entries all tables have that *account* leads to."""
    count = 0
    met: set[int] = set()
    to_meet: list[object] = [account]
    while to_meet:
        one = to_meet.pop()
        home = type(one).__module__.partition(".")[0]
        if id(one) in met or isinstance(one, FOREIGN):
            continue
        if home not in ("builtins", "cachetools", "collections", "imagefs", "weakref"):
            continue
        met.add(id(one))
        if isinstance(one, dict | list | set | deque):
            count += len(one)
        to_meet += gc.get_referents(one)
    return count


async def make_and_delete(account: Account, service: ChangingService, number: int) -> None:
    """An image is copied, renamed, touched, looked at and deleted; answers get lost, and readers learn of it late."""
    name = f"image {number}"
    service.fates.extend([LOST] if number % 3 == 0 else [])
    image_id = await account.replicate("1", "montreal", name)
    await account.wait_active(image_id)
    await account.details(image_id)
    await account.set_mtime(image_id, 1)
    await account.rename(image_id, f"{name} renamed")
    account.note_error(image_id, "nothing")
    await account.delete(image_id)
    account.note_error(image_id, "It is gone.")


def test_what_was_made_and_deleted_leaves_nothing() -> None:
    """After many images the tables are as long as after a few."""
    service = ChangingService([image("1", "source")], saving_s=1.0)
    stage = Stage(service)

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            for number in range(4):
                await make_and_delete(account, service, number)
            await trio.sleep(700)
            await account.refresh()
            before = entries(account)
            for number in range(ROUNDS):
                await make_and_delete(account, service, number)
            await trio.sleep(700)
            await account.refresh()
            assert entries(account) < before + ROUNDS

    play(scene)


def test_what_others_made_and_deleted_leaves_nothing() -> None:
    """Images that are listed for a while, looked at, and deleted by somebody else."""
    service = ChangingService([image("1")])

    async def others_work(account: Account, first: int, count: int) -> None:
        for number in range(first, first + count):
            service.rows = [image("1"), image(f"9{number}")]
            await account.refresh()
            await account.details(f"9{number}")
            await account.set_mtime(f"9{number}", 1)
        service.rows = [image("1")]
        for _ in range(4):
            await account.refresh()
            await trio.sleep(300)

    async def scene() -> None:
        async with Stage(service).account() as account:
            await others_work(account, 0, 4)
            before = entries(account)
            await others_work(account, 4, ROUNDS)
            assert entries(account) < before + ROUNDS

    play(scene)


def test_a_failed_call_leaves_no_answer_behind() -> None:
    """An error may be kept, and an answer have mebibytes; the call's frames must not be kept with it."""

    class Answer:
        """What a call works on."""

    living: weakref.WeakSet[Answer] = weakref.WeakSet()

    def call() -> None:
        answer = Answer()
        living.add(answer)
        failure = MalformedAnswer("no JSON")
        raise failure

    async def main() -> None:
        with pytest.raises(MalformedAnswer) as raised:
            await Threads(trio.to_thread.run_sync).ask(call, trio.CapacityLimiter(1))
        assert raised.value.args == ("no JSON",)
        assert not living

    gc.disable()  # which would come to it in the end
    try:
        trio.run(main)
    finally:
        gc.enable()
