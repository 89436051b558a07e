"""Changes on an emulated service, which shares no code with the product: its own faults, and what is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from account_emulated import places, play_on, shown, until

from imagefs.account import Account
from imagefs.account.stored_account import StoredAccount
from imagefs.core.control_lines import parse_line
from imagefs.emulator import Emulator, Fault, Switches
from imagefs.errors import ImageFailed, Overloaded, RefusedPermission


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Emulator]:
    """A service with one image in toronto and a public template in montreal."""
    with Emulator(tmp_path / "service", switches=Switches(saving_s=0.05)) as emulator:
        emulator.add_image("template", "montreal", b"public", public=True, image_id="5000")
        emulator.add_synthetic("a", "toronto", 1000, seed=1)
        yield emulator


TEMPLATE = ("montreal", "template")


def own_id(service: Emulator) -> str:
    """The id of the image in toronto."""
    return next(one.image_id for one in service.images() if one.region == "toronto")


@pytest.mark.parametrize(
    "lost", [(), ("replicate",), ("rename",), ("delete",), ("replicate", "rename", "delete")]
)
@pytest.mark.parametrize("pending_changes", [True, False])
def test_a_move_survives_lost_answers(
    service: Emulator, tmp_path: Path, lost: tuple[str, ...], pending_changes: bool
) -> None:
    """One replica is made, with the right bytes, and the source is gone."""
    service.switches.pending_changes = pending_changes
    source = own_id(service)
    content = service.content(source).read_bytes()
    for action in lost:
        service.faults.add(Fault("answer_lost", action=action))

    async def scene(account: Account, stored: StoredAccount) -> None:
        new = await account.move(source, "montreal", "b")
        assert shown(account) == [("montreal", "b"), TEMPLATE]
        await account.wait_active(new)
        await until(lambda: not stored.load_intents())
        assert places(service) == [("montreal", "b"), TEMPLATE]
        assert service.content(new).read_bytes() == content
        assert service.ledger.count("replicate") == 1

    play_on(service, tmp_path / "index", scene)


@pytest.mark.parametrize("kind", ["replica_killed", "replica_checksum", "replica_size"])
@pytest.mark.parametrize("move", [True, False])
def test_a_wrong_replica_never_costs_its_source(
    service: Emulator, tmp_path: Path, kind: str, move: bool
) -> None:
    """Moved, or copied and then deleted while the replica is pending: it is shown again."""
    service.switches.saving_s = 0.5
    source = own_id(service)
    service.faults.add(Fault(kind))

    async def scene(account: Account, _stored: StoredAccount) -> None:
        if move:
            new = await account.move(source, "montreal", "b")
        else:
            new = await account.replicate(source, "montreal", "b")
            await account.delete(source)
        assert ("toronto", "a") not in shown(account)
        with pytest.raises(ImageFailed):
            await account.wait_active(new)
        assert ("toronto", "a") in shown(account)
        assert account.error_of(new)
        assert account.error_of(source)
        assert service.ledger.count("delete") == 0

    play_on(service, tmp_path / "index", scene)


def test_a_template_can_be_copied_but_not_moved(service: Emulator, tmp_path: Path) -> None:
    """Its deletion is refused: at once where it is asked for, at the end of a move where not."""

    async def scene(account: Account, _stored: StoredAccount) -> None:
        with pytest.raises(RefusedPermission):
            await account.delete("5000")
        with pytest.raises(RefusedPermission):
            await account.rename("5000", "mine")
        new = await account.move("5000", "roubaix", "mine")
        await account.wait_active(new)
        await until(lambda: TEMPLATE in shown(account))
        assert "permission" in (account.error_of("5000") or "")
        assert ("roubaix", "mine") in shown(account)

    play_on(service, tmp_path / "index", scene)


@pytest.mark.parametrize("fault", [None, Fault("answer_lost", action="fetch")])
def test_an_image_is_fetched_once(service: Emulator, tmp_path: Path, fault: Fault | None) -> None:
    """Whether the answer came or not; its URL's credentials are not written down."""
    url = service.root_url.replace("//", "//me:secret@") + f"content/{own_id(service)}"
    request = parse_line(f"{url} name=fetched.iso")
    assert request is not None
    if fault is not None:
        service.faults.add(fault)

    async def scene(account: Account, _stored: StoredAccount) -> None:
        new = await account.fetch(request, "roubaix")
        assert ("roubaix", "fetched.iso") in shown(account)
        await account.wait_active(new)
        assert (await account.details(new)).size_bytes == 1000
        assert "secret" not in (account.location_of(new) or "secret")
        assert service.ledger.count("fetch") == 1

    play_on(service, tmp_path / "index", scene)
    written = b"".join(path.read_bytes() for path in tmp_path.glob("index*"))
    assert b"secret" not in written


def test_a_service_that_is_busy_is_asked_again(service: Emulator, tmp_path: Path) -> None:
    """429 a few times is nothing to speak of; past the deadline it is the person's to try again."""
    source = own_id(service)
    service.faults.add(Fault("status", action="rename", status=429, times=3))

    async def scene(account: Account, _stored: StoredAccount) -> None:
        await account.rename(source, "b")
        assert ("toronto", "b") in places(service)
        service.faults.add(Fault("status", action="rename", status=429, retry_after="25", times=None))
        with pytest.raises(Overloaded):
            await account.rename(source, "c")
        assert ("toronto", "b") in shown(account)

    play_on(service, tmp_path / "index", scene)
