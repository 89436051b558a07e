"""Prefetch: a walk through a region is quick, a single look costs a single call."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from account_changing import ChangingService
from account_fakes import FakeService, Stage, image, play

from imagefs.account import Account, AccountSettings
from imagefs.errors import Refused, ServiceError, Unreachable


def play_with(stage: Stage, scene: Callable[[Account], Awaitable[None]]) -> None:
    """Run *scene* on an account that has been listed."""

    async def main() -> None:
        async with stage.account() as account:
            await account.images()
            await scene(account)

    play(main)


def region_of(count: int, region: str = "toronto", first: int = 0) -> list:
    """Many active images of one region."""
    return [image(str(n), region=region) for n in range(first, first + count)]


def test_a_walk_through_a_thousand_images_takes_seconds() -> None:
    """``ls -l`` asks for one after another; at 50 ms a call it has them all in less than 4.5 s."""
    stage = Stage(FakeService(region_of(1000)))

    async def scene(account: Account) -> None:
        began = trio.current_time()
        for n in range(1000):
            await account.details(str(n))
        assert trio.current_time() - began < 4.5
        assert sorted(stage.service.asked, key=int) == [str(n) for n in range(1000)]
        assert stage.most_at_once <= 16 + 1  # the writer's call counts as well

    play_with(stage, scene)


def test_a_walk_against_the_listing_order_is_as_quick() -> None:
    """Programs that sort before they look find the answers there, too."""
    stage = Stage(FakeService(region_of(1000)))

    async def scene(account: Account) -> None:
        began = trio.current_time()
        for n in reversed(range(1000)):
            await account.details(str(n))
        assert trio.current_time() - began < 4.5
        assert len(stage.service.asked) == 1000

    play_with(stage, scene)


def test_single_looks_cost_single_calls() -> None:
    """Neither one image, nor one in each region, nor one now and then starts a prefetch."""
    stage = Stage(FakeService(region_of(50) + region_of(50, "montreal", 50)))

    async def scene(account: Account) -> None:
        await account.details("0")
        await account.details("50")
        for n in range(1, 5):
            await trio.sleep(1.1)
            await account.details(str(n))
        await trio.sleep(10)
        assert len(stage.service.asked) == 6

    play_with(stage, scene)


def test_a_service_nearby_is_asked_for_few_at_once() -> None:
    """More would only take the processor from who changes the account meanwhile."""
    stage = Stage(FakeService(region_of(200)))
    stage.latency_s = 0.004

    async def scene(account: Account) -> None:
        account.prefetch_details("toronto")
        await trio.sleep(10)
        assert len(stage.service.asked) == 200
        assert stage.most_at_once <= 2 + 1  # the writer's call counts as well

    play_with(stage, scene)


def test_two_misses_in_a_region_fetch_that_region_only() -> None:
    """The second miss within a second starts it, in listing order."""
    stage = Stage(FakeService(region_of(50) + region_of(50, "montreal", 50)))

    async def scene(account: Account) -> None:
        await account.details("30")
        await account.details("40")
        await trio.sleep(1)
        first, *then = stage.service.asked
        assert first == "30"
        assert set(then[:16]) <= {"40", *map(str, range(18))}  # two begin, and sixteen go on
        assert len(then) == len(set(then)) == 49

    play_with(stage, scene)


def test_a_slow_service_triggers_it_as_well() -> None:
    """The second counts from the end of a call, so calls of more than a second are no excuse."""
    stage = Stage(FakeService(region_of(50)))
    stage.latency_s = 3

    async def scene(account: Account) -> None:
        await account.details("0")
        await account.details("1")
        assert len(stage.service.asked) > 2

    play_with(stage, scene)


def test_it_ends_when_nobody_asks_any_more() -> None:
    """Two looks into a huge region don't fetch all of it."""
    stage = Stage(FakeService(region_of(10_000)))

    async def scene(account: Account) -> None:
        await account.details("0")
        await account.details("1")
        await trio.sleep(60)
        assert 500 < len(stage.service.asked) < 1000

    play_with(stage, scene)


def test_asked_for_it_goes_to_the_end() -> None:
    """Also where it was under way for a walk that has ended."""
    stage = Stage(FakeService(region_of(2000)))

    async def scene(account: Account) -> None:
        await account.details("0")
        await account.details("1")
        account.prefetch_details("toronto")
        account.prefetch_details("toronto")
        account.prefetch_details("nowhere")
        await trio.sleep(60)
        assert len(stage.service.asked) == 2000

    play_with(stage, scene)


def test_it_stops_at_a_dead_service() -> None:
    """The calls under way fail, and no further ones are made."""
    stage = Stage(FakeService(region_of(1000)))
    stage.service.details_failure = Unreachable("The service does not answer.")

    async def scene(account: Account) -> None:
        account.prefetch_details("toronto")
        await trio.sleep(60)
        assert len(stage.service.asked) <= 32

    play_with(stage, scene)


def test_bad_images_do_not_stop_it() -> None:
    """Refusals concern one image each; a walk sees each of them once."""
    stage = Stage(FakeService(region_of(300)))
    stage.service.failures = {str(n): Refused(f"no {n}") for n in range(0, 300, 3)}

    async def scene(account: Account) -> None:
        refused = 0
        for n in range(300):
            try:
                await account.details(str(n))
            except ServiceError:
                refused += 1
        assert refused == 100
        assert len(stage.service.asked) == 300

    play_with(stage, scene)


def test_a_bug_ends_the_prefetch_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and the account goes on."""
    stage = Stage(FakeService(region_of(40)))
    stage.service.failures["3"] = ZeroDivisionError()

    async def scene(account: Account) -> None:
        account.prefetch_details("toronto")
        await trio.sleep(1)
        assert (await account.details("39")).image_id == "39"

    play_with(stage, scene)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("count", [0, 1])
def test_there_may_be_nothing_to_fetch(count: int) -> None:
    """An empty region, and one whose details are all known, cost nothing."""
    stage = Stage(FakeService(region_of(count)))

    async def scene(account: Account) -> None:
        for n in range(count):
            await account.details(str(n))
        account.prefetch_details("toronto")
        await trio.sleep(1)
        assert len(stage.service.asked) == count

    play_with(stage, scene)


def test_a_prefetch_gives_way_to_a_change_that_somebody_waits_for() -> None:
    """And goes on when it is done."""
    service = ChangingService(region_of(200))
    stage = Stage(service)

    async def scene(account: Account) -> None:
        account.prefetch_details("toronto")
        await trio.sleep(0.12)
        begun = len(service.asked)
        stage.latency_s = 0.5
        await account.rename("7", "new")
        assert len(service.asked) - begun <= AccountSettings().details_parallel
        stage.latency_s = 0.05
        await trio.sleep(5)
        assert len(service.asked) == 200

    play_with(stage, scene)
