"""The client and the emulator, which share no code: each shows that the other follows the page."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from api_peer import FakeClock, receive

from imagefs import errors
from imagefs.api import Limits, ServiceClient
from imagefs.core.models import Credentials, Phase
from imagefs.emulator import Emulator, Fault, Switches
from imagefs.emulator.faults import NATURAL_ACTION

SIZE = 300_000
LIMITS = Limits(attempt_s=0.4, stall_s=0.2, rate_window_s=0.2, least_rate=100_000)


@pytest.fixture
def clock():
    """One clock for both sides."""
    return FakeClock()


@pytest.fixture
def service(tmp_path, clock):
    """A running emulator with one synthetic image."""
    with Emulator(tmp_path / "data", switches=Switches(saving_s=60), clock=clock.time) as emulator:
        emulator.add_synthetic("first", "toronto", SIZE, seed=1)
        yield emulator


@pytest.fixture
def account(service, clock):
    """A client of it."""
    client = ServiceClient(
        Credentials(service.api_id, service.api_key), service.api_url, clock=clock, limits=LIMITS
    )
    yield client
    client.close()


@pytest.fixture
def first(account):
    """The details of the image."""
    [image] = account.list_images().images
    return account.image_details(image.image_id)


def read_all(body):
    """Everything that the body has."""
    pieces = []
    while piece := receive(body, 1 << 18):
        pieces.append(piece)
    body.close()
    return b"".join(pieces)


def test_an_images_life(account, first, clock):
    """Listed, read, renamed, replicated and deleted."""
    assert (first.name, first.region, first.size_bytes, first.phase) == (
        "first",
        "toronto",
        SIZE,
        Phase.ACTIVE,
    )
    content = read_all(account.retrieve(first.image_id, SIZE))
    assert hashlib.md5(content).hexdigest() == first.checksum
    assert read_all(account.retrieve(first.image_id, SIZE, 1000, 2000)) == content[1000:2000]

    account.rename_image(first.image_id, "second/名前")
    replica = account.replicate_image(first.image_id, "montreal")
    assert account.image_details(replica).phase is Phase.PENDING
    clock.sleep(120)
    assert account.image_details(replica).content_key == first.content_key
    account.delete_image(first.image_id)
    assert [image.image_id for image in account.list_images().images] == [replica]
    assert [image.name for image in account.list_images("montreal").images] == ["second/名前"]
    with pytest.raises(errors.RefusedUnknownImage):
        account.delete_image(first.image_id)


def test_a_wrong_key_is_refused(service, clock):
    """With the service's reason."""
    client = ServiceClient(Credentials(service.api_id, "x" * 128), service.api_url, clock=clock)
    with pytest.raises(errors.CredentialsRefused) as caught:
        client.list_images()
    assert "x" * 12 not in str(caught.value)
    client.close()


def test_a_clock_that_is_off_is_named(service, account):
    """By how much, from the answer's date."""
    service.switches.clock_offset_s = 7200
    with pytest.raises(errors.CredentialsRefused, match=r"7200 s behind"):
        account.list_images()


def test_a_service_that_accepts_a_nonce_once_is_lived_with(service, account):
    """One call a second at most, but none fails."""
    service.switches.unique_nonce = True
    for _ in range(3):
        account.list_images()


def test_calls_at_once_do_not_share_a_nonce_that_is_accepted_once(service, clock):
    """Each waits for a second of its own, by a clock that none of them moves."""
    service.switches.turn({"unique_nonce": True, "clock_offset_s": time.time() - clock.time()})
    client = ServiceClient(Credentials(service.api_id, service.api_key), service.api_url)
    with ThreadPoolExecutor(3) as threads:
        calls = [threads.submit(client.list_images) for _ in range(3)]
    assert [call.exception() for call in calls] == [None, None, None]
    client.close()


@pytest.mark.parametrize(
    ("ranges", "framing"), [(True, "length"), (True, "chunked"), (True, "close"), (False, "length")]
)
@pytest.mark.parametrize(
    "kind", sorted(kind for kind, action in NATURAL_ACTION.items() if action == "retrieve")
)
def test_a_fault_of_content_never_yields_wrong_bytes(service, account, first, kind, ranges, framing):
    """Bytes of the image at their place, or an error; `content` finds damage inside by the checksum."""
    content = service.content(first.image_id).read_bytes()
    service.add_image("other", "toronto", b"another image's bytes" * 1000)
    service.switches.turn({"range": ranges, "framing": framing})
    service.faults.add(Fault(kind, times=None, after_bytes=100_000))
    for start, end in ((0, None), (50_000, 250_000)):
        try:
            body = account.retrieve(first.image_id, SIZE, start, end, deadline_s=1)
            received = read_all(body)
        except errors.ImagefsError:
            continue
        assert len(received) == body.end - body.start
        if kind not in ("corrupt_byte", "other_image"):
            assert received == content[body.start : body.end]


@pytest.mark.parametrize(
    "kind", sorted(kind for kind, action in NATURAL_ACTION.items() if action in ("list", "details"))
)
def test_a_fault_of_an_answer_is_an_error_or_a_problem_of_one_image(service, account, first, kind):
    """Never anything but the tree of errors."""
    service.faults.add(Fault(kind, times=None, value={} if kind == "fields" else None))
    try:
        listing = account.list_images(deadline_s=1)
        details = account.image_details(first.image_id, deadline_s=1)
    except errors.ServiceError:
        return
    assert kind in ("list_empty", "list_cut") or listing.images or listing.problems
    assert details.size_bytes in (None, SIZE)


def test_a_lost_answer_to_a_change_is_reported(service, account, first):
    """The replica is there, and the client does not ask for a second one."""
    service.faults.add(Fault("answer_lost", times=None))
    with pytest.raises(errors.AnswerLost):
        account.replicate_image(first.image_id, "montreal")
    assert len(account.list_images("montreal").images) == 1
