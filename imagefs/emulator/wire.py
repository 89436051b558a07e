"""Signed calls as the service checks them, and its JSON answers.

Written from the service's page and its public clients. Used by the site, on the connection threads.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import parse_qs

PARTIAL_KEY_CHARACTERS = 64


class Refusal(Exception):
    """The service says no; the message is the ``error`` text of the answer."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The account's API ID (16 characters) and API key (128 characters)."""

    api_id: str
    api_key: str

    def __repr__(self) -> str:
        return "ApiKey(...)"

    def signature(self, action: str, request: str, nonce: str) -> str:
        """The hex HMAC-SHA512 of a call of ``image/{action}/``."""
        text = f"image/{action}/|{request}|{nonce}"
        return hmac.new(self.api_key.encode(), text.encode(), hashlib.sha512).hexdigest()


class SignatureCheck:
    """Decides whether a call is the account's, and remembers the nonces that it has seen."""

    def __init__(self, key: ApiKey) -> None:
        self._key = key
        self._lock = Lock()
        self._seen: dict[str, int] = {}

    def parameters(
        self, action: str, body: bytes, *, now_s: float, window_s: float, unique_nonce: bool
    ) -> dict[str, str]:
        """The action's parameters, without the credentials.

        *body* is the form ``req``, ``signature``, ``nonce``; a nonce is accepted up to *window_s* seconds
        from *now_s*, the service's clock. Raises Refusal where anything is not as the page asks.
        """
        form = parse_form(body)
        request, signature, nonce = (form.get(name, "") for name in ("req", "signature", "nonce"))
        parameters = parse_request(request)
        api_id = parameters.pop("api_id", "")
        partial_key = parameters.pop("api_partialkey", "")
        if not (
            _same(api_id, self._key.api_id) and _same(partial_key, self._key.api_key[:PARTIAL_KEY_CHARACTERS])
        ):
            raise Refusal("authentication failure: no such API ID or partial key")
        if not _same(signature, self._key.signature(action, request, nonce)):
            raise Refusal("authentication failure: invalid signature")
        self._check_nonce(nonce, now_s, window_s, unique_nonce)
        return parameters

    def _check_nonce(self, nonce: str, now_s: float, window_s: float, unique: bool) -> None:
        if not (nonce.isascii() and nonce.isdigit()):
            raise Refusal("authentication failure: invalid nonce")
        if len(nonce) > 20 or abs(int(nonce) - now_s) > window_s:
            raise Refusal("authentication failure: nonce out of range, check the clock")
        if not unique:
            return
        with self._lock:
            if nonce in self._seen:
                raise Refusal("authentication failure: nonce already used")
            self._seen = {old: at_s for old, at_s in self._seen.items() if abs(at_s - now_s) <= window_s}
            self._seen[nonce] = int(nonce)


def parse_form(body: bytes) -> dict[str, str]:
    """The fields of a form-encoded *body*. Raises Refusal where it is not one, or repeats a field."""
    try:
        form = parse_qs(body.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=10)
    except ValueError as error:
        raise Refusal("invalid request: the body is not form-encoded") from error
    if any(len(values) != 1 for values in form.values()):
        raise Refusal("invalid request: a field is there more than once")
    return {name: values[0] for name, values in form.items()}


def parse_request(request: str) -> dict[str, str]:
    """The map of texts that *request* is the JSON of. Raises Refusal for anything else."""
    try:
        parameters = json.loads(request)
    except (ValueError, RecursionError) as error:
        raise Refusal("invalid request: req is not JSON") from error
    if not isinstance(parameters, dict) or not all(isinstance(value, str) for value in parameters.values()):
        raise Refusal("invalid request: req is not a map of strings to strings")
    return parameters


def rendered(payload: dict[str, Any]) -> bytes:
    """*payload* as the body of an answer."""
    return json.dumps(payload).encode()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
