"""Where published content is served, as frozen values. Made by the command line."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from imagefs.errors import SetupError

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class PublishSettings:
    """How content is published.

    ``url`` is where the service finds this machine, without a slash at its end; ``host`` (None: all addresses) and
    ``port`` are where this machine listens. With ``certificate`` and ``private_key``, PEM files, it speaks TLS
    itself; without, an ``https`` URL is that of a proxy in front.
    """

    url: str
    host: str | None
    port: int
    certificate: Path | None = None
    private_key: Path | None = None

    @classmethod
    def parse(
        cls,
        url: str,
        listen: str | None = None,
        certificate: Path | None = None,
        private_key: Path | None = None,
    ) -> PublishSettings:
        """Settings from texts: *listen* is ``ADDRESS:PORT``, ``[ADDRESS]:PORT`` or ``:PORT``; default: the URL's port.

        Raises SetupError for what makes no sense.
        """
        port = _port_of(url)
        host = None
        if listen is not None:
            host, port = _address(listen)
        if (certificate is None) != (private_key is None):
            raise SetupError(
                "--publish-cert and --publish-key go together: a certificate and its private key."
            )
        if certificate is not None and not url.startswith("https:"):
            raise SetupError(f"With --publish-cert the address is an https one, not {url}.")
        return cls(url.rstrip("/"), host, port, certificate, private_key)

    def tls_context(self) -> ssl.SSLContext | None:
        """The context to serve with, None without TLS. Raises SetupError."""
        if self.certificate is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.certificate, self.private_key)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
            raise SetupError(
                f"The certificate {self.certificate} and key {self.private_key} cannot be used: {reason}"
            ) from error
        return context


def _port_of(url: str) -> int:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SetupError(f"--publish: {url!a} is no address.") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise SetupError(f"--publish takes an address like https://disks.example.org:8443, not {url!a}.")
    if parts.username or parts.password or parts.query or parts.fragment or not url.isascii() or " " in url:
        raise SetupError("--publish takes an address without a user, a query or a fragment.")
    return port or _PORTS[parts.scheme]


def _address(listen: str) -> tuple[str | None, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise SetupError(f"--publish-listen takes ADDRESS:PORT, not {listen!a}.")
    return host.removeprefix("[").removesuffix("]") or None, int(port)
