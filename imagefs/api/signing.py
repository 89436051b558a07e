"""The signature of a call, as the service's overview page describes it.

Used by the client, on any thread.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from urllib.parse import urlencode

from imagefs.core.models import Credentials

PARTIAL_KEY_LENGTH = 64
"""How much of the API key is part of the signed request; the key as a whole never leaves this machine."""


def signed_form(credentials: Credentials, path: str, parameters: Mapping[str, str], nonce: int) -> bytes:
    """The form-encoded body of a call to *path* (``image/list/``): ``req``, ``signature`` and ``nonce``.

    The request map is encoded to JSON once, and these very bytes are signed and sent. *nonce* is the current
    UTC time in whole seconds.
    """
    request = json.dumps(
        {
            **parameters,
            "api_id": credentials.api_id,
            "api_partialkey": credentials.api_key[:PARTIAL_KEY_LENGTH],
        }
    )
    message = f"{path}|{request}|{nonce}"
    signature = hmac.new(credentials.api_key.encode(), message.encode(), hashlib.sha512).hexdigest()
    return urlencode({"req": request, "signature": signature, "nonce": str(nonce)}).encode("ascii")
