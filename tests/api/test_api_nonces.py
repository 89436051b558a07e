"""Nonces: shared within a second, unless the service has refused that."""

import pytest
from api_peer import FakeClock

from imagefs.api.nonces import FIRST_ONCE_S, MOST_AHEAD_S, MOST_ONCE_S, Nonces
from imagefs.api.refusals import NonceRefused
from imagefs.errors import CredentialsRefused, Overloaded, Unreachable


class Refuser:
    """Refuses the first nonce that it is given, and remembers how much time is left at each attempt."""

    def __init__(self, nonces: Nonces) -> None:
        self.nonces = nonces
        self.used: list[int] = []
        self.left_s: list[float] = []

    def __call__(self, left_s: float) -> int:
        self.left_s.append(left_s)
        self.used.append(self.nonces.next(left_s))
        if len(self.used) == 1:
            raise NonceRefused("nonce already used")
        return self.used[-1]


@pytest.fixture
def clock():
    """A clock that moves where somebody sleeps."""
    return FakeClock()


def refused(clock):
    """Nonces of which the service has just refused one, and that one."""
    nonces = Nonces(clock)
    refuser = Refuser(nonces)
    assert nonces.past_refusal(refuser, 10) == refuser.used[0] + 1
    assert refuser.left_s[1] <= refuser.left_s[0]
    return nonces, refuser.used[0]


def test_calls_of_one_second_share_it(clock):
    """As the service's public clients do; nobody waits."""
    nonces = Nonces(clock)
    assert {nonces.next(0.1) for _ in range(5)} == {int(clock.time())}
    assert not clock.slept_s


def test_after_a_refusal_each_call_has_its_own_second(clock):
    """They are given out in order, and none before it has come."""
    nonces, first = refused(clock)
    for number in range(2, 6):
        assert nonces.next(10) == first + number
        assert clock.time() >= first + number


def test_who_has_no_time_to_wait_is_told_at_once(clock):
    """And takes no second from the others."""
    nonces, first = refused(clock)
    slept_s = sum(clock.slept_s)
    with pytest.raises(Overloaded, match="one call a second"):
        nonces.next(0.01)
    assert sum(clock.slept_s) == slept_s
    assert nonces.next(10) == first + 2


def is_shared(nonces):
    """Whether two calls get the same nonce."""
    return nonces.next(10) == nonces.next(10)


def test_seconds_are_shared_again_after_a_while(clock):
    """What the service can do is learned again."""
    nonces, _ = refused(clock)
    clock.now_s += FIRST_ONCE_S
    assert is_shared(nonces)


def test_a_service_that_takes_each_nonce_once_is_asked_in_vain_less_and_less_often(clock):
    """Each refusal that follows soon doubles the time until seconds are shared again, up to a limit."""
    nonces, _ = refused(clock)
    once_for_s = FIRST_ONCE_S
    for expected_s in (8, 16, 32, 64, 128, 256, 256):
        clock.now_s += once_for_s
        refused_s = clock.monotonic()
        nonces.past_refusal(Refuser(nonces), 10)
        once_for_s = expected_s
        clock.now_s = refused_s + once_for_s - 4
        assert not is_shared(nonces)
    clock.now_s += once_for_s
    assert is_shared(nonces)


def test_refusals_that_are_far_between_slow_nobody_down_for_long(clock):
    """The last one is forgotten."""
    nonces, _ = refused(clock)
    for _ in range(10):
        clock.now_s += 2 * MOST_ONCE_S
        nonces.past_refusal(Refuser(nonces), 10)
    clock.now_s += FIRST_ONCE_S
    assert is_shared(nonces)


def test_refusals_at_once_count_as_one(clock):
    """Many calls may have shared the second."""
    nonces, _ = refused(clock)
    for _ in range(10):
        nonces._note_refusal()
    clock.now_s += FIRST_ONCE_S
    assert is_shared(nonces)


def test_a_clock_that_is_set_back_keeps_nobody_waiting(clock):
    """Seconds that were given out before that are no measure any more."""
    nonces, first = refused(clock)
    nonces._last = first + MOST_AHEAD_S + 10
    assert nonces.next(1) == int(clock.time())


def test_a_shared_nonce_may_be_refused_without_being_named(clock):
    """A call that shared its second is made once more with one of its own, whatever the service calls its refusal."""
    nonces = Nonces(clock)
    nonces.next(10)
    used = []

    def attempt(left_s):
        used.append(nonces.next(left_s))
        if len(used) == 1:
            raise CredentialsRefused("authentication failure")
        return used[-1]

    assert nonces.past_refusal(attempt, 10) == used[0] + 1


def test_refused_credentials_are_not_tried_again_with_a_nonce_of_their_own(clock):
    """Nobody else had the nonce, so it cannot be the reason."""
    nonces = Nonces(clock)
    used = []

    def attempt(left_s):
        used.append(nonces.next(left_s))
        raise CredentialsRefused("authentication failure")

    with pytest.raises(CredentialsRefused):
        nonces.past_refusal(attempt, 10)
    assert len(used) == 1


def test_refused_credentials_for_which_the_nonce_is_not_to_blame_slow_nobody_down(clock):
    """A service may answer 403 for one image alone: the others are not asked for one a second because of it."""
    nonces = Nonces(clock)
    used = []

    def attempt(left_s):
        used.append(nonces.next(left_s))
        raise CredentialsRefused("403")

    for _ in range(3):
        nonces.next(10)
        with pytest.raises(CredentialsRefused):
            nonces.past_refusal(attempt, 10)
        assert is_shared(nonces)
    assert len(used) == 6


def test_a_nonce_that_was_named_stays_to_blame(clock):
    """Though a call that was made before that was known is refused for another reason."""
    nonces = Nonces(clock)
    nonces.next(10)

    def attempt(left_s):
        nonces.next(left_s)
        if not clock.slept_s:
            refused_by_name()
        raise CredentialsRefused("403")

    def refused_by_name():
        nonces.past_refusal(Refuser(nonces), 10)

    with pytest.raises(CredentialsRefused):
        nonces.past_refusal(attempt, 10)
    assert not is_shared(nonces)


def test_a_change_that_waits_too_long_for_its_second_was_never_sent(peer, client, clock, monkeypatch):
    """So nobody needs to look what became of it."""

    def late(left_s, stop=None):
        clock.sleep(left_s + 1)
        return int(clock.time())

    monkeypatch.setattr(client._nonces, "next", late)
    with pytest.raises(Unreachable) as caught:
        client.delete_image("1")
    assert not caught.value.maybe_done
    assert not peer.requests
