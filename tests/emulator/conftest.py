"""An emulator with an empty account, and a client that signs by the page, independent of the product's own."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from imagefs.emulator import Emulator, Switches


class SteppedClock:
    """Seconds since the epoch that pass only when a test says so."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class SignedClient:
    """Calls an emulator as the service's page says."""

    def __init__(self, service: Emulator, clock: SteppedClock) -> None:
        self.service = service
        self.clock = clock
        self.session = requests.Session()
        self.session.trust_env = False

    def form(self, action: str, params: dict[str, Any], **wrong: str) -> dict[str, str]:
        """The signed form of a call; *wrong* replaces parts of it after signing."""
        key = self.service.api_key
        request = json.dumps({**params, "api_id": self.service.api_id, "api_partialkey": key[:64]})
        nonce = str(int(self.clock()))
        text = f"image/{action}/|{request}|{nonce}"
        signature = hmac.new(key.encode(), text.encode(), hashlib.sha512).hexdigest()
        return {"req": request, "signature": signature, "nonce": nonce, **wrong}

    def post(self, action: str, *, headers: dict[str, str] | None = None, **params: Any) -> requests.Response:
        """The answer to a call, with its body not read yet."""
        url = f"{self.service.api_url}image/{action}/"
        return self.session.post(
            url,
            data=self.form(action, params),
            headers=headers,
            stream=True,
            allow_redirects=False,
            timeout=20,
        )

    def call(self, action: str, **params: Any) -> Any:
        """The JSON of an answer."""
        return self.post(action, **params).json()

    def details(self, image_id: str) -> dict[str, Any]:
        """The details of an image."""
        details: dict[str, Any] = self.call("details", image_id=image_id)["details"]
        return details


@pytest.fixture
def clock() -> SteppedClock:
    """The emulator's clock."""
    return SteppedClock()


@pytest.fixture
def service(tmp_path: Path, clock: SteppedClock) -> Iterator[Emulator]:
    """A running emulator with an empty account."""
    with Emulator(tmp_path / "data", switches=Switches(saving_s=60), clock=clock) as emulator:
        yield emulator


@pytest.fixture
def client(service: Emulator, clock: SteppedClock) -> Iterator[SignedClient]:
    """A client of that emulator."""
    signed = SignedClient(service, clock)
    yield signed
    signed.session.close()
