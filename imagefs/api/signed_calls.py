"""One signed call, and the JSON that it is answered with. Nothing is repeated here.

Used by the client, on any thread, several calls at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from imagefs.api import parsing
from imagefs.api.clock import Clock
from imagefs.api.connections import ConnectError
from imagefs.api.encodings import decoded
from imagefs.api.failures import TRANSPORT_ERRORS, connect_failure, reason_of
from imagefs.api.limits import Limits
from imagefs.api.nonces import Nonces
from imagefs.api.parsing import Answer
from imagefs.api.signing import signed_form
from imagefs.api.stopping import Stop
from imagefs.api.tally import Tally
from imagefs.api.transport import Exchange, Transport
from imagefs.api.verdicts import Verdicts
from imagefs.core.models import Credentials
from imagefs.errors import MalformedAnswer, ServiceError, Unreachable


class SignedCalls:
    """Makes calls for the account of *credentials*.

    Attributes:
        tally: how the calls went.
        clock_offset_s: how far this machine's clock was ahead of the service's when it last answered; None
            where it did not say.

    """

    def __init__(
        self,
        credentials: Credentials,
        transport: Transport,
        nonces: Nonces,
        verdicts: Verdicts,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self.tally = Tally(clock.time)
        self.clock_offset_s: float | None = None
        self._credentials = credentials
        self._transport = transport
        self._nonces = nonces
        self._verdicts = verdicts
        self._clock = clock
        self._limits = limits

    def post(
        self,
        action: str,
        parameters: Mapping[str, str],
        left_s: float,
        *,
        lost: type[Unreachable] = Unreachable,
        headers: Mapping[str, str] | None = None,
        stop: Stop | None = None,
    ) -> Exchange:
        """Sign and send one call; its answer's head.

        Raises `Unreachable` where nothing was sent, *lost* where no answer came, and `TransferBroken` where
        *stop* ended it. Never chained to its cause: the errors of requests hold the request, with the partial
        key and the signature.
        """
        subject, host = subject_of(action, parameters), self._transport.host
        ends_s = self._clock.monotonic() + left_s
        _check_time(subject, left_s)
        if stop is not None:
            stop.raise_if_set(subject)
        path = f"image/{action}/"
        form = signed_form(self._credentials, path, parameters, self._nonces.next(left_s, stop))
        left_s = ends_s - self._clock.monotonic()
        _check_time(subject, left_s)
        failure: ServiceError
        try:
            exchange = self._transport.post(
                path,
                form,
                connect_s=min(self._limits.connect_s, left_s),
                total_s=left_s,
                headers=headers or {},
                stop=stop,
            )
        except ConnectError as exc:
            kind, reason = connect_failure(exc)
            failure = kind(f"{subject}: {host} cannot be reached: {self._verdicts.redact(reason)}")
        except TRANSPORT_ERRORS as exc:
            failure = lost(f"{subject}: no answer from {host}: {reason_of(exc)}")
        else:
            self.tally.note(answered=True)
            return exchange
        if stop is not None:
            stop.raise_if_set(subject)
        self.tally.note(answered=False)
        raise failure

    def answer(
        self,
        action: str,
        parameters: Mapping[str, str],
        exchange: Exchange,
        *,
        lost: type[Unreachable] = Unreachable,
    ) -> Answer:
        """The JSON object that a call answered; raises the error of a refusal."""
        subject = subject_of(action, parameters)
        most_bytes = self._limits.list_bytes if action == "list" else self._limits.answer_bytes
        unread: ServiceError | None = None
        body = b""
        try:
            body = decoded(exchange.read(most_bytes + 1), exchange.headers, most_bytes + 1)
        except TRANSPORT_ERRORS as exc:
            unread = lost(f"{subject}: the answer was cut: {reason_of(exc)}")
        except MalformedAnswer as exc:
            unread = (MalformedAnswer if exchange.framed else lost)(f"{subject}: {exc}")
        finally:
            exchange.discard()
        self.clock_offset_s = self._verdicts.clock_offset_s(exchange.headers)
        # What the status says holds, whether the rest of the answer came or not.
        failure = self._verdicts.of_status(subject, exchange.status, exchange.headers, body) or unread
        if failure is not None:
            raise failure
        if len(body) > most_bytes:
            raise MalformedAnswer(f"{subject}: the answer is longer than {most_bytes} bytes")
        try:
            answer = parsing.answer_object(body)
        except MalformedAnswer as exc:
            if exchange.framed:
                raise MalformedAnswer(f"{subject}: {exc}") from None
            raise lost(f"{subject}: {exc}, and may have been cut") from None
        refusal = parsing.refusal_text(answer)
        if refusal is not None:
            raise self._verdicts.of_refusal(subject, refusal, exchange.headers)
        return answer


def _check_time(subject: str, left_s: float) -> None:
    if left_s <= 0:
        raise Unreachable(f"{subject}: no time is left")


def subject_of(action: str, parameters: Mapping[str, str]) -> str:
    """The beginning of a message: the action, and what it is about."""
    of = parameters.get("image_id") or parameters.get("name") or parameters.get("region")
    return f"image/{action}" if of is None else f"image/{action} of {of!a}"
