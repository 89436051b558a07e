"""Tells the service manager that started a mount how it is doing (sd_notify(3)). Used by mounts in the foreground."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)


def notify(state: str, environment: Mapping[str, str]) -> None:
    """Send *state*, such as ``READY=1``, where the environment names a socket for it. A failure is only logged."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.settimeout(1.0)  # a manager that does not read must not hold up the mount
            out.sendto(state.encode(), address.replace("@", "\0", 1) if address[0] == "@" else address)
    except OSError as error:
        logger.warning("The service manager could not be told that %s: %s.", state, error.strerror or error)
