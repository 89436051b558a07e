"""The wall clock makes nonces and nothing else: deadlines and waits are not touched where it jumps."""

from dataclasses import dataclass

import pytest
from api_peer import CREDENTIALS, FakeClock, answers

from imagefs import errors
from imagefs.api import Limits, ServiceClient

LISTED = {"images": [], "success": "yes"}


@dataclass
class JumpingClock(FakeClock):
    """A wall clock that is set anew whenever somebody sleeps."""

    jumps_s: tuple[float, ...] = ()
    off_s: float = 0.0

    def time(self) -> float:
        return self.now_s + self.off_s

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.jumps_s:
            self.off_s, *rest = self.jumps_s
            self.jumps_s = tuple(rest)


@pytest.fixture
def jumping(peer):
    """A client whose wall clock goes an hour ahead, then a day back."""
    clock = JumpingClock(jumps_s=(3600.0, -86400.0, 5.0))
    client = ServiceClient(CREDENTIALS, peer.url, clock=clock, limits=Limits(attempt_s=5.0))
    yield client, clock
    client.close()


def test_each_attempt_is_signed_with_the_time_it_is_made(peer, jumping):
    """A retry that repeated the nonce would be refused by a service that takes each one once."""
    client, clock = jumping
    began_s = clock.time()
    busy = answers(b"", 503, Retry_After=2)
    peer.script(busy, busy, answers(LISTED))
    client.list_images()
    nonces = [int(request.form["nonce"]) for request in peer.requests]
    expected = (began_s, began_s + 2 + 3600, began_s + 4 - 86400)
    assert all(abs(nonce - at_s) <= 2 for nonce, at_s in zip(nonces, expected, strict=True))
    assert len({request.form["signature"] for request in peer.requests}) == 3


def test_a_jump_of_the_wall_clock_neither_ends_nor_prolongs_a_call(peer, jumping):
    """Its deadline is kept on a clock that is never set."""
    client, clock = jumping
    peer.script(answers(b"", 503))
    began_s = clock.monotonic()
    with pytest.raises(errors.Overloaded):
        client.list_images(deadline_s=20)
    assert 10 <= clock.monotonic() - began_s <= 20


def test_a_date_to_retry_at_is_bounded_on_a_wall_clock_that_is_wrong(peer, jumping):
    """A clock that is a day behind would wait a day."""
    client, clock = jumping
    clock.off_s = -86400.0
    start_of_clock = "Tue, 14 Nov 2023 22:13:20 GMT"
    busy = answers(b"", 503, Retry_After=start_of_clock)
    peer.script(busy, answers(LISTED))
    client.list_images()
    assert sum(clock.slept_s) <= Limits().retry_after_most_s


def test_a_change_that_is_put_off_is_signed_anew(peer, jumping):
    """It is sent again only because it was certainly not carried out."""
    client, _ = jumping
    peer.script(answers(b"", 429), answers({"success": "yes"}))
    client.rename_image("1", "b")
    first, second = (request.form for request in peer.requests)
    assert first["req"] == second["req"]
    assert first["nonce"] != second["nonce"]
