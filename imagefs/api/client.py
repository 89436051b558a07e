"""The service's image actions as calls.

Used by the account and content rooms from worker threads, several at once. Every call ends within its
deadline.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar

from imagefs import __version__
from imagefs.api import parsing
from imagefs.api.body import ContentBody, open_body
from imagefs.api.clock import Clock, SystemClock
from imagefs.api.content_head import Wanted
from imagefs.api.endpoint import checked_credentials, checked_url
from imagefs.api.limits import Limits
from imagefs.api.nonces import Nonces
from imagefs.api.parsing import Answer, Listing
from imagefs.api.retry import RetryPolicy
from imagefs.api.signed_calls import SignedCalls, subject_of
from imagefs.api.stopping import Stop
from imagefs.api.tally import Tally
from imagefs.api.transport import Transport
from imagefs.api.verdicts import Verdicts
from imagefs.core.models import DEFAULT_API_URL, Credentials, ImageDetails
from imagefs.errors import AnswerLost, MalformedAnswer, Overloaded, PutOff, ServerFailed

CREATING_ACTIONS: Final = ("fetch", "replicate")
"""The actions that answer with the id of a new image."""

T = TypeVar("T")


class ServiceClient:
    """The service, as one account sees it.

    Any method can raise `Unreachable`, `Overloaded`, `CredentialsRefused`, `MalformedAnswer` and the subclasses of
    `Refused`. Calls that change nothing are tried again within their deadline. A call that changes the account is
    carried out at most once: it is tried again only if nothing was sent or the service put it off (429). It raises
    `AnswerLost` (``maybe_done``) if the service may have carried it out, and `PutOff`, a kind of that, if the service
    says that it has not (503).
    """

    def __init__(
        self,
        credentials: Credentials,
        api_url: str = DEFAULT_API_URL,
        *,
        clock: Clock | None = None,
        limits: Limits | None = None,
        rng: random.Random | None = None,
        user_agent: str = f"imagefs/{__version__}",
    ) -> None:
        """Raises `SetupError` for a malformed URL, or plain http to another machine."""
        credentials = checked_credentials(credentials)
        self._clock = clock or SystemClock()
        self._limits = limits or Limits()
        self._nonces = Nonces(self._clock)
        self._retry = RetryPolicy(self._limits, self._clock, rng or random.Random())  # noqa: S311  (jitter)
        self._transport = Transport(checked_url(api_url), user_agent, self._limits.idle_connections)
        self._verdicts = Verdicts(self._transport.host, credentials, self._clock)
        self._calls = SignedCalls(
            credentials, self._transport, self._nonces, self._verdicts, self._clock, self._limits
        )

    @property
    def tally(self) -> Tally:
        """How the calls went."""
        return self._calls.tally

    @property
    def clock_offset_s(self) -> float | None:
        """How far this machine's clock was ahead of the service's when it last answered; None if it did not say."""
        return self._calls.clock_offset_s

    def list_images(
        self,
        region: str | None = None,
        *,
        deadline_s: float | None = None,
        no_connection_s: float | None = None,
    ) -> Listing:
        """All images of the account and the public ones, or those of *region* alone (``image/list``).

        Without any connection, it is given up after *no_connection_s*.
        """
        parameters = {} if region is None else {"region": region}
        return parsing.listing(self._read("list", parameters, deadline_s, no_connection_s))

    def image_details(self, image_id: str, *, deadline_s: float | None = None) -> ImageDetails:
        """What the service knows about an image (``image/details``)."""
        answer = self._read("details", {"image_id": image_id}, deadline_s)
        return parsing.image_details(image_id, answer)

    def fetch_image(
        self,
        *,
        region: str,
        name: str,
        location: str,
        image_format: str,
        virtio: bool,
        deadline_s: float | None = None,
    ) -> str:
        """Have the service download an image from *location*; the new image's id (``image/fetch``)."""
        parameters = {
            "region": region,
            "name": name,
            "location": location,
            "format": image_format,
            "virtio": "yes" if virtio else "no",
        }
        return parsing.new_image_id(self._change("fetch", parameters, deadline_s))

    def replicate_image(self, image_id: str, region: str, *, deadline_s: float | None = None) -> str:
        """Have the service copy an image to *region*; the replica's id (``image/replicate``)."""
        parameters = {"image_id": image_id, "region": region}
        return parsing.new_image_id(self._change("replicate", parameters, deadline_s))

    def delete_image(self, image_id: str, *, deadline_s: float | None = None) -> None:
        """Delete an image for good (``image/delete``)."""
        self._change("delete", {"image_id": image_id}, deadline_s)

    def rename_image(self, image_id: str, name: str, *, deadline_s: float | None = None) -> None:
        """Give an image another name (``image/rename``)."""
        self._change("rename", {"image_id": image_id, "name": name}, deadline_s)

    def retrieve(
        self,
        image_id: str,
        size_bytes: int,
        start: int = 0,
        end: int | None = None,
        *,
        stall_s: float | None = None,
        deadline_s: float | None = None,
        stop: Stop | None = None,
    ) -> ContentBody:
        """The content of an image of *size_bytes* from offset *start* to before *end* (``image/retrieve``).

        The deadline is for opening, which *stop* can end earlier; after that, content may stay away for *stall_s*.
        Where the service does not honour ranges, the body starts at 0 and holds everything. Also raises
        `TransferBroken`, where the answer is not the content or the opening was stopped.
        """
        everything = start == 0 and end is None
        if not everything and not 0 <= start < (size_bytes if end is None else end) <= size_bytes:
            raise ValueError(f"no bytes of {size_bytes} from {start} to {end}")
        wanted = Wanted(
            subject=f"content of image {image_id}",
            size_bytes=size_bytes,
            start=start,
            end=end,
            stall_s=self._limits.stall_s if stall_s is None else stall_s,
        )

        def attempt(left_s: float) -> ContentBody:
            attempt_s = min(left_s, self._limits.attempt_s)
            exchange = self._calls.post(
                "retrieve", {"image_id": image_id}, attempt_s, headers=wanted.headers, stop=stop
            )
            body = open_body(
                exchange, wanted, verdicts=self._verdicts, clock=self._clock, limits=self._limits
            )
            if stop is not None and stop.is_set():  # which may have cut the head short
                body.close()
                stop.raise_if_set(wanted.subject)
            return body

        deadline_s = self._limits.read_deadline_s if deadline_s is None else deadline_s
        return self._run(attempt, deadline_s, stop=stop)

    def close(self) -> None:
        """Close the idle connections. Bodies that are still open go on."""
        self._transport.close()

    def _read(
        self,
        action: str,
        parameters: Mapping[str, str],
        deadline_s: float | None,
        no_connection_s: float | None = None,
    ) -> Answer:
        """The answer to a call that changes nothing, tried again within its deadline."""

        def attempt(left_s: float) -> Answer:
            exchange = self._calls.post(action, parameters, min(left_s, self._limits.attempt_s))
            return self._calls.answer(action, parameters, exchange)

        deadline_s = self._limits.read_deadline_s if deadline_s is None else deadline_s
        return self._run(attempt, deadline_s, no_connection_s)

    def _change(self, action: str, parameters: Mapping[str, str], deadline_s: float | None) -> Answer:
        """The answer to a change, which is sent again only where it was certainly not carried out."""

        def attempt(left_s: float) -> Answer:
            attempt_s = min(left_s, self._limits.change_attempt_s)
            exchange = self._calls.post(action, parameters, attempt_s, lost=AnswerLost)
            lost: AnswerLost | None = None
            try:
                answer = self._calls.answer(action, parameters, exchange, lost=AnswerLost)
                if action in CREATING_ACTIONS:
                    parsing.new_image_id(answer)
                elif answer.get("success") is None:
                    lost = AnswerLost(
                        f"{subject_of(action, parameters)}: the answer does not say whether it succeeded"
                    )
            except MalformedAnswer as exc:
                if exchange.status >= 300:
                    raise
                lost = AnswerLost(str(exc))
            except Overloaded as exc:
                if exchange.status != 408 and exchange.status < 500:
                    raise
                unavailable = exchange.status == HTTPStatus.SERVICE_UNAVAILABLE
                lost = PutOff(str(exc), exc.retry_after_s) if unavailable else ServerFailed(str(exc))
            if lost is not None:
                raise lost
            return answer

        return self._run(attempt, self._limits.change_deadline_s if deadline_s is None else deadline_s)

    def _run(
        self,
        attempt: Callable[[float], T],
        deadline_s: float,
        no_connection_s: float | None = None,
        stop: Stop | None = None,
    ) -> T:
        """Run *attempt* under the retry policy; where its nonce is refused, once more with that of a later second."""
        past_refusal = partial(self._nonces.past_refusal, attempt)
        return self._retry.run(past_refusal, deadline_s, no_connection_s, stop)
