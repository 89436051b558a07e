"""How long the client waits, and how much it accepts."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """The client's bounds. Every call ends within its deadline, whatever the other side does."""

    read_deadline_s: float = 60.0
    """A call that changes nothing, its retries included."""
    change_deadline_s: float = 60.0
    """A call that changes the account."""
    attempt_s: float = 30.0
    """One attempt of a call that changes nothing, so that a silent connection leaves time for another."""
    change_attempt_s: float = 20.0
    """One attempt of a call that changes the account, so that a lost answer leaves time to see what became of it."""
    connect_s: float = 10.0
    """Name lookup, connection, proxy tunnel and TLS handshake of one attempt together."""

    list_bytes: int = 32 * MIB
    """The longest answer to ``image/list``."""
    answer_bytes: int = MIB
    """The longest answer to any other action."""

    backoff_first_s: float = 0.25
    """The wait before the first retry, doubled for each that follows, of which up to a half is cut at random."""
    backoff_most_s: float = 8.0
    """The longest wait that is not asked for by the service."""
    retry_after_most_s: float = 30.0
    """The longest wait that the service can ask for."""

    stall_s: float = 30.0
    """How long content may stay away before its transfer counts as stalled."""
    rate_window_s: float = 30.0
    """The span of waiting over which the least rate is measured."""
    least_rate: int = KIB
    """Bytes a second below which content counts as stalled."""
    idle_connections: int = 64
    """How many connections are kept open between calls."""
