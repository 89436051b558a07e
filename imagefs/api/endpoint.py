"""What the client is set up with, checked: the API URL and the credentials.

Used by the client when it is made.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from imagefs.core.models import Credentials
from imagefs.errors import SetupError


def checked_credentials(credentials: Credentials) -> Credentials:
    """*credentials*, if they can be those of an account; else `SetupError`, which shows nothing of them."""
    for what, text in (("ID", credentials.api_id), ("key", credentials.api_key)):
        if not text or not text.isascii() or not text.isprintable() or " " in text:
            raise SetupError(f"the API {what} is empty or holds characters that it cannot hold")
    return credentials


def checked_url(api_url: str) -> str:
    """*api_url* with a trailing slash. Raises `SetupError` if it is malformed, or plain http to elsewhere."""
    try:
        url = urlsplit(api_url)
        host, _ = url.hostname or "", url.port
    except ValueError:
        raise SetupError("the API URL is malformed") from None
    if url.username is not None or url.password is not None:
        raise SetupError("the API URL must not hold credentials")
    if url.scheme not in ("http", "https") or not host or not re.fullmatch(r"[!-~]+", api_url):
        raise SetupError(f"the API URL is not one of http or https: {api_url!a}")
    if url.query or url.fragment:
        raise SetupError(f"the API URL must end with its path: {api_url!a}")
    if url.scheme == "http" and not is_loopback(host):
        raise SetupError(f"plain http is only used to this machine itself, not to {host}: use https")
    return api_url if api_url.endswith("/") else api_url + "/"


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
