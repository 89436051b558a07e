"""What was asked of the emulator, and what became of it: for tests, benchmarks and the control plane.

Written by the connection threads, read by any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    ``action`` is the image action, or "plain" for a plain GET; ``params`` are its parameters without the
    credentials; ``time_s`` is seconds since the epoch by the machine's clock. ``outcome`` is "in progress"
    until the answer is known, then "ok", "refused: TEXT" or "fault: KIND", and "aborted" where the client
    went away before it had all. ``body_bytes_sent`` counts what was handed to the socket. ``range`` is the
    Range header.
    """

    action: str
    params: Mapping[str, str]
    time_s: float
    outcome: str
    http_status: int
    body_bytes_sent: int
    range: str | None = None


@dataclass(slots=True)
class OpenCall:
    """A call while its connection thread is busy with it; that thread alone changes it.

    Both the outcome and the bytes are noted before anything is sent, so that a client that has an answer
    finds it in the ledger.
    """

    action: str
    params: Mapping[str, str]
    time_s: float
    range: str | None = None
    outcome: str = "in progress"
    http_status: int = 0
    body_bytes_sent: int = 0

    def count(self, body_bytes: int) -> None:
        """Note that some bytes of the body are handed to the socket."""
        self.body_bytes_sent += body_bytes

    def frozen(self) -> Call:
        """The call as it stands."""
        return Call(
            self.action,
            self.params,
            self.time_s,
            self.outcome,
            self.http_status,
            self.body_bytes_sent,
            self.range,
        )


class Ledger:
    """All calls, in the order in which they came, those in progress included."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls: list[OpenCall] = []

    def begin(self, call: OpenCall) -> None:
        """Add a call that is about to be answered."""
        with self._lock:
            self._calls.append(call)

    def clear(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._calls.clear()

    @property
    def calls(self) -> list[Call]:
        """Every call."""
        with self._lock:
            return [call.frozen() for call in self._calls]

    def count(self, action: str | None = None) -> int:
        """How many calls there were, of one action or of all."""
        with self._lock:
            return sum(action in (None, call.action) for call in self._calls)

    def bytes_retrieved(self, image_id: str | None = None) -> int:
        """The body bytes of ``image/retrieve`` handed to sockets, of one image or of all."""
        with self._lock:
            return sum(
                call.body_bytes_sent
                for call in self._calls
                if call.action == "retrieve" and image_id in (None, call.params.get("image_id"))
            )
