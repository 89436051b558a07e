"""From written bytes to an active image, with the service played by a fake."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from publish_fakes import ISO, Content, FakeAccount
from trio.testing import MockClock, wait_all_tasks_blocked

from imagefs.core.models import ContentKey
from imagefs.errors import AnswerLost, ImageFailed, NotSupported, RefusedQuota, Unreachable
from imagefs.publish import Publisher, PublishSettings
from imagefs.publish import publisher as publishing

SETTINGS = PublishSettings("https://disks.example", "127.0.0.1", 0)

Story = Callable[[Publisher, FakeAccount], Awaitable[None]]


def play(story: Story, account: FakeAccount) -> None:
    """Run *story* in virtual time."""

    async def stage() -> None:
        async with trio.open_nursery() as nursery:
            await story(Publisher(account, SETTINGS, trio.CapacityLimiter(4), nursery.start_soon), account)

    trio.run(stage, clock=MockClock(autojump_threshold=0.01))


def test_an_upload_ends_when_its_image_is_active():
    """The service is told an address, a format and a name, and the content is kept until it is done."""

    async def story(publisher: Publisher, account: FakeAccount) -> None:
        content = Content()
        upload = await publisher.publish("toronto", "disk", content)
        ((request, region, expected),) = account.requests
        (offer,) = publisher.offers
        assert (request.name, request.image_format, region) == ("disk", "iso", "toronto")
        assert request.url == f"https://disks.example/{offer.token}/disk"
        assert expected == upload.key == ContentKey(len(ISO), content.md5())
        assert not content.closed
        account.done.set()
        await upload.wait()
        assert content.closed
        assert publisher.offers == ()
        assert account.errors == {}

    play(story, FakeAccount())


def test_a_failed_image_is_an_error_that_says_how_far_it_came():
    """To whoever waits, and on the file."""

    async def story(publisher: Publisher, account: FakeAccount) -> None:
        content = Content()
        upload = await publisher.publish("toronto", "disk", content)
        publisher.offers[0].requests = 2
        publisher.offers[0].sent.add(0, 1000)
        account.done.set()
        with pytest.raises(ImageFailed, match=f"killed.* asked 2 times .* sent 1000 of {len(ISO)} bytes"):
            await upload.wait()
        assert content.closed
        assert account.errors == {"1": str(upload.error)}

    play(story, FakeAccount(failure=ImageFailed("It was killed.")))


def test_an_address_that_the_service_does_not_reach_has_a_clear_end():
    """It is given some minutes; the message names the address."""

    async def story(publisher: Publisher, account: FakeAccount) -> None:
        upload = await publisher.publish("toronto", "disk", Content())
        with pytest.raises(Unreachable, match="never asked for it: it may not reach https"):
            await upload.wait()
        assert trio.current_time() == pytest.approx(publishing.FIRST_REQUEST_S, abs=1)

    play(story, FakeAccount())


def test_a_service_that_asked_gets_longer():
    """A large image takes its time."""

    async def story(publisher: Publisher, account: FakeAccount) -> None:
        upload = await publisher.publish("toronto", "disk", Content())
        await wait_all_tasks_blocked()
        publisher.offers[0].requests += 1
        publisher.offers[0].asked()
        with pytest.raises(Unreachable, match="asked 1 times"):
            await upload.wait()
        assert trio.current_time() == pytest.approx(publishing.EXPIRY_S, abs=1)

    play(story, FakeAccount())


def test_a_service_that_asks_before_it_answers_gets_longer_as_well():
    """It downloads all in one request, which may have begun when it tells what it calls the image."""

    async def story(publisher: Publisher, account: FakeAccount) -> None:
        def ask() -> None:
            publisher.offers[0].requests += 1
            publisher.offers[0].asked()

        account.asked = ask
        upload = await publisher.publish("toronto", "disk", Content())
        with pytest.raises(Unreachable, match="asked 1 times"):
            await upload.wait()
        assert trio.current_time() == pytest.approx(publishing.EXPIRY_S, abs=1)

    play(story, FakeAccount())


def test_a_download_ends_where_the_answer_to_the_request_is_lost():
    """What was offered is its owner's again, who closes it: nobody may read it any more."""

    async def story(publisher: Publisher, account: FakeAccount) -> None:
        ended = trio.Event()

        async def download() -> None:
            with publisher.offers[0].download():
                await trio.sleep_forever()
            ended.set()

        async with trio.open_nursery() as nursery:
            account.asked = partial(nursery.start_soon, download)
            with pytest.raises(AnswerLost):
                await publisher.publish("toronto", "disk", Content())
            assert publisher.offers == ()
            await wait_all_tasks_blocked()
            assert ended.is_set()
            nursery.cancel_scope.cancel()

    play(story, FakeAccount(refusal=AnswerLost("It may have been carried out.")))


@pytest.mark.parametrize(
    ("content", "refusal", "expected"),
    [(Content(), RefusedQuota("no more"), RefusedQuota), (Content(b"text"), None, NotSupported)],
)
def test_what_is_refused_leaves_nothing(content, refusal, expected):
    """The content stays with whoever offered it."""

    async def story(publisher: Publisher, account: FakeAccount) -> None:
        for _ in range(publishing.MAX_OFFERS + 1):
            with pytest.raises(expected):
                await publisher.publish("toronto", "disk", content)
        assert publisher.offers == ()
        assert not content.closed

    play(story, FakeAccount(refusal=refusal))


class SlowContent(Content):
    """Its MD5 takes until it ``may_end``."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.ended = False

    def md5(self) -> str:
        """After a while."""
        self.begun.set()
        self.may_end.wait(20)
        self.ended = True
        return super().md5()


def test_the_end_of_a_mount_does_not_wait_for_a_large_contents_md5():
    """What was written out of order has to be read for it, which may take minutes."""

    async def story(publisher: Publisher, account: FakeAccount) -> None:
        content = SlowContent()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publisher.publish, "toronto", "disk", content)
            await trio.to_thread.run_sync(content.begun.wait)
            nursery.cancel_scope.cancel()
        assert not content.ended
        content.may_end.set()

    play(story, FakeAccount())


def test_only_some_are_published_at_once():
    """The next one is published when one of them has ended."""

    async def story(publisher: Publisher, account: FakeAccount) -> None:
        uploads = []

        async def upload() -> None:
            uploads.append(await publisher.publish("toronto", "disk", Content()))

        async with trio.open_nursery() as nursery:
            for _ in range(publishing.MAX_OFFERS + 1):
                nursery.start_soon(upload)
            while len(uploads) < publishing.MAX_OFFERS:  # noqa: ASYNC110  # threads are at work
                await trio.sleep(0.01)
            await wait_all_tasks_blocked(0.05)
            assert len(publisher.offers) == len(uploads) == publishing.MAX_OFFERS
            account.done.set()
        assert len(uploads) == publishing.MAX_OFFERS + 1

    play(story, FakeAccount())
