"""urllib3's connections and pools, with budgets of time, and with bodies that another thread can interrupt.

Used by the transport only.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from imagefs.api.answer_head import AnswerHead
from imagefs.api.sockets import BudgetSocket, BudgetTlsSocket, dial, shut_down
from imagefs.api.stopping import current_stop

REST_S: Final = 60.0
"""What nobody used for longer is connected anew. Routers forget such connections, and this machine's sleep outlasts
them: whatever is sent then may be dropped without a word, and a call's time be over before that is noticed."""


class ConnectError(Exception):
    """No connection could be made, so nothing of a request was sent. Its cause says why."""


class _Leased:
    """Mixed into connections: whoever reads a body holds a lease, which ends when the connection goes back to its pool.

    An abort from another thread names the lease, so that it can never hit the next user of the connection.
    """

    host: str
    port: int
    timeout: float | None
    socket_options: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wire: BudgetSocket | BudgetTlsSocket | None = None
        self.answer: AnswerHead | None = None
        self.response_class: Any = self._new_answer  # what http.client makes an answer with
        self._guard = threading.Lock()
        self._lease = 0
        self._rests_since_s = 0.0

    def _new_conn(self) -> BudgetSocket:
        return dial(self.host, self.port, self.timeout or 0.0, self.socket_options or ())

    def connect(self) -> None:
        """Connect, tunnel and shake hands within ``timeout``; raises `ConnectError`."""
        try:
            super().connect()  # type: ignore[misc]  # the connection class that this is mixed into
        except Exception as exc:
            raise ConnectError from exc
        # Kept here, since http.client hands its own reference to an answer that ends with the connection.
        self.wire = self.sock  # type: ignore[attr-defined]
        self._raise_if_stopped()

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request, over a new connection where there is none; raises `ConnectError`."""
        self._raise_if_stopped()
        super().request(*args, **kwargs)  # type: ignore[misc]  # as for connect

    def _raise_if_stopped(self) -> None:
        """Raise `ConnectError` for a call that should end; let one that should end later be woken here."""
        stop = current_stop.get()
        if stop is not None:
            stop.awaits(self)
            if stop.is_set():
                raise ConnectError

    def _new_answer(self, *args: Any, **kwargs: Any) -> AnswerHead:
        self.answer = AnswerHead(*args, **kwargs)
        return self.answer

    @property
    def is_connected(self) -> bool:
        """Whether the connection can carry another call: it is open, nothing has arrived that no one asked for, and it
        has not rested for too long.

        TLS within TLS cannot tell.
        """
        if _awake_or_not_s() - self._rests_since_s > REST_S:
            return False
        if not super().is_connected or getattr(self.wire, "surplus", True):  # type: ignore[misc]  # as for connect
            return False
        return not (isinstance(self.wire, BudgetTlsSocket) and self.wire.pending())

    @property
    def lease(self) -> int:
        """The current lease."""
        return self._lease

    def end_lease(self) -> None:
        """The body was read to its end, or given up."""
        self._rests_since_s = _awake_or_not_s()
        with self._guard:
            self._lease += 1

    def interrupt(self, lease: int) -> None:
        """Wake the reader that holds *lease*; any thread. Does nothing once the lease has ended."""
        with self._guard:
            if lease == self._lease and self.wire is not None:
                shut_down(self.wire)


def _awake_or_not_s() -> float:
    """Seconds since some moment, those that this machine slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class PlainConnection(_Leased, HTTPConnection):
    """A connection without TLS."""


class TlsConnection(_Leased, HTTPSConnection):
    """A connection with TLS."""


class _EndingLeases:
    """Mixed into pools: the lease of a connection ends when it goes back."""

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.end_lease()
        super()._put_conn(conn)  # type: ignore[misc]  # the pool class that this is mixed into


class PlainPool(_EndingLeases, HTTPConnectionPool):
    """Connections without TLS to one host."""

    ConnectionCls = PlainConnection


class TlsPool(_EndingLeases, HTTPSConnectionPool):
    """Connections with TLS to one host."""

    ConnectionCls = TlsConnection
