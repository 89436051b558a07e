"""The service, for commands that ask it themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imagefs.cli.settings import Settings
from imagefs.core.models import Credentials, ListedImage

if TYPE_CHECKING:
    from imagefs.api import ServiceClient


PATIENCE_S: Final = 15.0
"""How long somebody at a terminal waits for a call that changes nothing, its retries included."""


def client_of(settings: Settings, account: Credentials) -> ServiceClient:
    """A client for *account*. Raises SetupError for an address that cannot be the service's."""
    from imagefs.api import ServiceClient  # noqa: PLC0415  # loads requests, which not every command needs

    return ServiceClient(account, settings["api_url"])


def listed(client: ServiceClient) -> tuple[ListedImage, ...]:
    """The account's images. Raises ServiceError."""
    return client.list_images(deadline_s=PATIENCE_S).images
