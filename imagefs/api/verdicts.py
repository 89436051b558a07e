"""What an answer means: the error for each HTTP status and each refusal, with a message for a person.

Used by the client and by content bodies, on any thread. Every text from outside passes the redactor first.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from imagefs.api.clock import Clock
from imagefs.api.parsing import answer_object, refusal_text
from imagefs.api.refusals import NonceRefused, error_for, is_nonce_refusal, redactor
from imagefs.core.models import Credentials
from imagefs.errors import (
    CredentialsRefused,
    MalformedAnswer,
    Overloaded,
    Refused,
    ServiceError,
)

TOLERATED_SKEW_S = 30.0
"""A clock that is off by less is not worth a word; the service does not say what it tolerates."""

Headers = Mapping[str, str]


class Verdicts:
    """The errors that one service's answers stand for."""

    def __init__(self, host: str, credentials: Credentials, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self.redact = redactor(credentials)

    def of_status(self, subject: str, status: int, headers: Headers, body: bytes) -> ServiceError | None:
        """The error for an answer's *status*, or None for one of success."""
        if 200 <= status < 300:
            return None
        answers = f"{subject}: {self._host} answers {_status_text(status)}"
        if status in (408, 429) or status >= 500:
            return Overloaded(answers, self.retry_after_s(headers))
        if 300 <= status < 400:
            target = self.redact(_redirect_host(headers.get("Location")))
            return MalformedAnswer(
                f"{answers}, a redirect to {target}, and signed calls are never redirected; is the API URL right?"
            )
        refusal = self.in_body(subject, body, headers)
        if status in (401, 403) and (refusal is None or type(refusal) is Refused):
            reason = refusal or f"{answers}: the credentials are refused"
            return CredentialsRefused(f"{reason}{self._skew(headers)}")
        return refusal or MalformedAnswer(f"{answers} without a reason; is the API URL right?")

    def in_body(self, subject: str, body: bytes, headers: Headers) -> ServiceError | None:
        """The error for a refusal that *body* holds as JSON, or None where it holds none."""
        try:
            text = refusal_text(answer_object(body))
        except MalformedAnswer:
            return None
        return None if text is None else self.of_refusal(subject, text, headers)

    def of_refusal(self, subject: str, text: str, headers: Headers) -> ServiceError:
        """The error for a refusal with this *text*."""
        kind, shown = error_for(text), self.redact(text)
        if kind is Overloaded:
            return Overloaded(f"{subject}: refused for now: {shown}", self.retry_after_s(headers))
        if kind is CredentialsRefused:
            kind = NonceRefused if is_nonce_refusal(text) else kind
            return kind(f"{subject}: the credentials are refused: {shown}{self._skew(headers)}")
        assert issubclass(kind, Refused)
        return kind(f"{subject}: refused: {shown}")

    def retry_after_s(self, headers: Headers) -> float | None:
        """How long ``Retry-After`` asks to wait, as seconds or a date (RFC 9110, 10.2.3); None without it."""
        value = headers.get("Retry-After", "").strip()
        if value.isascii() and value.isdigit():
            return float(value[:9])
        date_s = _date_s(value)
        return None if date_s is None else max(date_s - self._clock.time(), 0.0)

    def clock_offset_s(self, headers: Headers) -> float | None:
        """How far this machine's clock is ahead of the service's; None where the answer has no date."""
        date_s = _date_s(headers.get("Date"))
        return None if date_s is None else self._clock.time() - date_s

    def _skew(self, headers: Headers) -> str:
        """By how much this machine's clock is off, where that is the likely reason for a refusal."""
        offset_s = self.clock_offset_s(headers)
        skew = None if offset_s is None else skew_of(offset_s)
        return "" if skew is None else f"; this machine's clock is {skew}: set it right"


def skew_of(offset_s: float) -> str | None:
    """How far a clock is off that is ahead of the service's by *offset_s*, in words; None where that is tolerated."""
    if abs(offset_s) <= TOLERATED_SKEW_S:
        return None
    return f"{abs(offset_s):.0f} s {'ahead of' if offset_s > 0 else 'behind'} the service's"


def _status_text(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _redirect_host(location: str | None) -> str:
    """The host of a redirect: the rest of the address may hold what was sent."""
    try:
        return urlsplit(location or "").hostname or "another path"
    except ValueError:
        return "a malformed address"


def _date_s(value: str | None) -> float | None:
    """Seconds since the epoch of an HTTP date, or None."""
    try:
        date = parsedate_to_datetime(value or "")
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
