"""Where the machine has no thread or memory left, or a bug strikes: what waits is taken up again, never dropped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import TypeVar

import pytest
import trio
from account_changing import CHANGING, LOST, ChangingService, shown
from account_fakes import FakeIndex, FakeService, Stage, image, play

from imagefs.account import Account, AccountSettings
from imagefs.account.journal import Journal
from imagefs.account.surroundings import Surroundings
from imagefs.account.tasks import Tasks
from imagefs.account.threads import Threads
from imagefs.core.intents import Deletion, Intent, Remark, dump_intent
from imagefs.errors import AnswerLost, OutOfResources, StoreError, Unreachable

T = TypeVar("T")


def test_a_move_goes_on_once_there_are_threads_again() -> None:
    """Ten minutes without a thread end nothing, and cost no more than a try now and then."""
    service = ChangingService([image("1", "a")])
    stage = Stage(service)

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            await account.move("1", "montreal", "b")
            stage.has_threads = False
            await trio.sleep(600)
            assert stage.refused_threads < 120
            stage.has_threads = True
            await trio.sleep(150)
            assert service.names() == [("montreal", "b")]
            assert stage.index.intents == {}

    play(scene)


def test_a_change_without_a_thread_is_refused_and_nothing_is_sent() -> None:
    """The one who asked is told, and may ask again."""
    service = ChangingService([image("1", "a")])
    stage = Stage(service)

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            stage.has_threads = False
            with pytest.raises(OutOfResources):
                await account.rename("1", "b")
            with pytest.raises(OutOfResources):
                await account.delete("1")
            with pytest.raises(OutOfResources):
                await account.replicate("1", "montreal", "a")
            assert service.changes == []
            stage.has_threads = True
            await account.rename("1", "b")
            assert service.names() == [("toronto", "b")]

    play(scene)


def test_details_are_asked_for_again_as_soon_as_there_are_threads_again() -> None:
    """That this machine had none says nothing of the image: it is not what is answered for a while, as a failure is."""
    service = ChangingService([image("1", "a")])
    stage = Stage(service)

    async def scene() -> None:
        async with stage.account() as account:
            await account.images()
            stage.has_threads = False
            with pytest.raises(OutOfResources):
                await account.details("1")
            stage.has_threads = True
            assert (await account.details("1")).image_id == "1"

    play(scene)


def test_a_lost_answer_is_settled_once_there_are_threads_again() -> None:
    """What became of a request is found out later, and it is not sent again."""
    service = ChangingService([image("1", "a")], fates=deque([LOST]))
    stage = Stage(service)

    async def scene() -> None:
        async with stage.account() as account, trio.open_nursery() as nursery:
            await account.refresh()

            async def lose_threads() -> None:
                while not service.changes:  # noqa: ASYNC110  # a fake tells nobody
                    await trio.sleep(0.01)
                stage.has_threads = False

            nursery.start_soon(lose_threads)
            with pytest.raises(AnswerLost):
                await account.replicate("1", "montreal", "b")
            stage.has_threads = True
            await trio.sleep(200)
            assert service.names() == [("montreal", "b"), ("toronto", "a")]

    play(scene)


def test_the_listing_is_asked_for_again_once_there_are_threads_again() -> None:
    """Until then the last one serves."""
    service = ChangingService([image("1", "a")])
    stage = Stage(service)

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            service.change("1", name="b")
            stage.has_threads = False
            await trio.sleep(60)
            assert (await account.images()).by_id["1"].name == "a"
            stage.has_threads = True
            await trio.sleep(60)
            assert account.snapshot is not None
            assert account.snapshot.by_id["1"].name == "b"

    play(scene)


def test_what_was_not_written_for_want_of_a_thread_is_written_later() -> None:
    """The index gets it along with the next change."""
    stage = Stage(ChangingService([image("1", "a")]))

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            await trio.sleep(5)
            stage.has_threads = False
            await account.set_mtime("1", 5)
            await trio.sleep(5)
            stage.has_threads = True
            await account.set_mtime("2", 6)
            await trio.sleep(5)
            assert stage.index.mtimes == {"1": 5, "2": 6}

    play(scene)


def test_what_earlier_mounts_left_is_taken_up_once_the_journal_can_be_read() -> None:
    """A mount that begins without a thread, or with an index that fails, finishes it all the same."""
    service = ChangingService([image("1", "a")])
    index = FakeIndex()
    first = Stage(service, index)

    async def scene() -> None:
        async with first.account() as account:
            await account.refresh()
            await account.move("1", "montreal", "b")
        second = Stage(service, index)
        index.failure = StoreError("the disk is away")
        async with second.account() as account:
            await account.refresh()
            await trio.sleep(100)
            index.failure = None
            await trio.sleep(200)
            assert service.names() == [("montreal", "b")]
            assert index.intents == {}

    play(scene)


@pytest.mark.parametrize("is_away_for_long", [False, True])
def test_what_is_noted_before_the_journal_could_be_read_takes_nobodys_place(is_away_for_long: bool) -> None:
    """Neither that of what an earlier mount left, nor is it lost when that is read in the end."""
    service = ChangingService(
        [image("1", "a"), image("2", "b", status="queued")], ready_at={"2": 90.0}, pending_changes=False
    )
    index = FakeIndex()
    index.intents = {1: dump_intent(Deletion("1"))}

    async def scene() -> None:
        index.failure = StoreError("the disk is away")
        async with Stage(service, index).account() as account:
            await account.refresh()
            if not is_away_for_long:
                index.failure = None
            await account.delete("2")
            await trio.sleep(20)
            index.failure = None
            await trio.sleep(300)
            assert service.names() == []
            assert index.intents == {}

    play(scene)


def test_what_has_ended_before_the_journal_could_be_read_is_not_what_has_its_number() -> None:
    """Whoever looks into it late leaves the change of an earlier mount alone."""
    index = FakeIndex()
    index.intents = {1: dump_intent(Deletion("1"))}

    async def scene() -> None:
        around = Surroundings(
            AccountSettings(),
            trio.current_time,
            lambda: 7,
            Random(1),
            Threads(Stage().run_sync),
            Tasks().start,
        )
        journal = Journal(index, around, lambda: None)
        index.failure = StoreError("the disk is away")
        await journal.settle(leaving=[Remark(("2",), error="It failed.")])
        (early,) = journal.remarks
        await journal.settle(early)
        index.failure = None
        await journal.load()
        assert not journal.holds(early)
        await journal.settle(early)
        assert [entry.intent for entry in journal.deletions] == [Deletion("1")]
        assert index.intents == {1: dump_intent(Deletion("1"))}

    play(scene)


class OnceFailingIndex(FakeIndex):
    """Fails at the third write of the journal."""

    def write_intents(self, saved: Mapping[int, Intent], removed: Iterable[int]) -> None:
        if self.calls["write_intents"] == 2:
            self.calls["write_intents"] += 1
            raise StoreError("the disk is away")
        super().write_intents(saved, removed)


def test_nothing_that_is_in_the_journal_is_said_not_to_have_been_begun(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second of three changes writes down the third as well, and then the disk fails.

    An intent that stayed there, of a move that was refused, could be taken up by the next mount.
    """
    index = OnceFailingIndex()
    service = ChangingService([image(number, number) for number in "123"])
    refused: set[str] = set()

    async def scene() -> None:
        async with Stage(service, index).account() as account, trio.open_nursery() as nursery:
            await account.refresh()

            async def move(number: str) -> None:
                try:
                    await account.move(number, "montreal", number)
                except StoreError:
                    refused.add(number)

            for number in "123":
                nursery.start_soon(move, number)
            await trio.sleep(300)
            assert index.calls["write_intents"] > 2
            assert index.intents == {}
            assert service.names() == sorted(
                ("toronto" if number in refused else "montreal", number) for number in "123"
            )

    play(scene)
    assert "the disk is away" in caplog.text


def test_a_bug_in_a_background_task_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the work is taken up again, ever more rarely."""
    service = ChangingService([image("1", "a")])
    stage = Stage(service)

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            await account.move("1", "montreal", "b")
            service.listing_failure = KeyError("a bug")
            await trio.sleep(600)
            assert service.listings < 120
            service.listing_failure = None
            await trio.sleep(150)
            assert service.names() == [("montreal", "b")]

    play(scene)
    assert "a bug" in caplog.text


def test_the_listing_in_the_background_survives_a_bug(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and when the service answers again, the trying comes to an end."""
    service = FakeService([image("1", "a")])
    stage = Stage(service)
    bugs: deque[Exception] = deque()

    def wall_ns() -> int:
        if bugs:
            raise bugs.popleft()
        return 7

    async def scene() -> None:
        account = Account(service, stage.index, wall_ns=wall_ns, random=Random(1), run_sync=stage.run_sync)
        await account.open()
        async with trio.open_nursery() as nursery:
            await nursery.start(account.serve)
            await account.refresh()
            service.listing_failure = Unreachable("away")
            with pytest.raises(Unreachable):
                await account.refresh()
            bugs.append(MemoryError())
            await trio.sleep(10)
            service.listing_failure = None
            await trio.sleep(600)
            assert sum(record.exc_info is not None for record in caplog.records) == 1
            service.change("1", name="b")
            await trio.sleep(60)
            assert (await account.images()).by_id["1"].name == "b"
            nursery.cancel_scope.cancel()

    play(scene)
    assert "The listing in the background failed by a bug" in caplog.text


class HeavyId(str):
    """The id of one of so many images that there is no memory to find it among them as long as ``memory_is_short``."""

    __slots__ = ()
    memory_is_short = False

    def __hash__(self) -> int:
        if HeavyId.memory_is_short:
            raise MemoryError
        return super().__hash__()


class HeavyService(ChangingService):
    """Memory is short when a change was carried out."""

    def _change(self, call: tuple[str, ...], carry_out: Callable[[], T]) -> T:
        answer = super()._change(call, carry_out)
        HeavyId.memory_is_short = True
        return answer


@pytest.mark.parametrize("kind", ["rename", "delete", "replicate", "move"])
def test_a_change_that_was_done_has_not_failed_though_it_cannot_be_shown(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """There may be no memory for the new state of many images; it is shown once there is."""
    service = HeavyService([image("1", "a"), image(HeavyId("2"), "other")], saving_s=5.0)
    stage = Stage(service)

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            try:
                await CHANGING[kind](account)
            finally:
                HeavyId.memory_is_short = False
            for _ in range(120):
                await trio.sleep(1)
                HeavyId.memory_is_short = False
            await account.refresh()
            assert stage.index.intents == {}
            assert sorted(shown(account).values()) == service.names()

    play(scene)
    assert "cannot be brought up to date" in caplog.text


@pytest.mark.parametrize("fate", [MemoryError(), RuntimeError("a bug")])
def test_a_change_that_fails_by_surprise_counts_as_one_whose_answer_is_lost(fate: Exception) -> None:
    """Whether it was carried out is looked up before anyone says that it was not."""
    service = ChangingService([image("1", "a")], fates=deque([fate]))
    stage = Stage(service, settings=AccountSettings())

    async def scene() -> None:
        async with stage.account() as account:
            await account.refresh()
            await account.rename("1", "b")
            assert service.names() == [("toronto", "b")]
            assert len(service.changes) == 2

    play(scene)
