"""Whatever happens to the account and to the service, what is shown is never a mix of two moments."""

from contextlib import suppress

import trio
from account_fakes import FakeService, Stage, details_of, image, play
from hypothesis import given, settings
from hypothesis import strategies as st

from imagefs.account import Account
from imagefs.core.models import Phase
from imagefs.errors import ServiceError, Unreachable

IDS = st.sampled_from(["1", "2", "3"])
EVENTS = st.one_of(
    st.tuples(st.just("status"), IDS, st.sampled_from(["active", "queued", "killed"])),
    st.tuples(st.just("rename"), IDS, st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("remove"), IDS, st.none()),
    st.tuples(st.just("away"), st.none(), st.booleans()),
    st.tuples(st.just("wait"), st.none(), st.sampled_from([0.01, 0.06, 3, 6, 31, 100])),
    st.tuples(st.just("refresh"), st.none(), st.none()),
    st.tuples(st.just("read"), IDS, st.none()),
    st.tuples(st.just("prefetch"), st.none(), st.none()),
)


def happen(service: FakeService, event: str, image_id: str, value: object) -> None:
    """Change the account behind the mount's back."""
    if event == "status":
        service.change(image_id, status=value)
    elif event == "rename":
        service.change(image_id, name=value)
    elif event == "remove":
        service.rows = [row for row in service.rows if row.image_id != image_id]
    elif event == "away":
        service.listing_failure = service.details_failure = Unreachable("away") if value else None


def assert_shown_consistently(account: Account) -> None:
    """Known details agree with the listing, and an active image is never without its size."""
    assert account.snapshot is not None
    for image_id, row in account.snapshot.by_id.items():
        details = account.known_details(image_id)
        if details is None:
            continue
        assert (details.name, details.region) == (row.name, row.region)
        if details.phase is Phase.ACTIVE:
            assert row.phase is Phase.ACTIVE
            assert details.size_bytes == 1000


@settings(deadline=None, max_examples=150)
@given(st.lists(EVENTS, max_size=25))
def test_listing_and_details_agree_at_every_moment(story: list) -> None:
    """And once the service answers again, the mount shows what the account holds."""
    stage = Stage(FakeService([image("1"), image("2", status="queued"), image("3")]))

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as readers:

            async def read(image_id: str) -> None:
                with suppress(ServiceError):
                    await account.details(image_id)

            await account.images()
            for event, image_id, value in story:
                happen(stage.service, event, image_id, value)
                if event == "wait":
                    await trio.sleep(value)
                elif event == "refresh":
                    with suppress(ServiceError):
                        await account.refresh()
                elif event == "read":
                    readers.start_soon(read, image_id)
                elif event == "prefetch":
                    account.prefetch_details("toronto")
                assert_shown_consistently(account)

            stage.service.listing_failure = stage.service.details_failure = None
            await trio.sleep(100)
            assert (await account.images()).images == tuple(stage.service.rows)
            for row in stage.service.rows:
                assert await account.details(row.image_id) == details_of(row)

    play(scene)
