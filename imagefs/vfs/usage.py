"""What an account's images take. On trio's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import trio

from imagefs.account import Account
from imagefs.core.models import ListedImage, Phase

PATIENCE_S: Final = 3.0
"""How long df waits for details that are still missing."""

POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Usage:
    """What df shows: the sizes of all images as far as they are known, and their number."""

    used_bytes: int
    images: int


async def usage_of(account: Account) -> Usage:
    """What the account's images take. Waits a little for sizes that are not known yet."""
    snapshot = await account.images()
    for region in snapshot.by_region:
        account.prefetch_details(region)
    with trio.move_on_after(PATIENCE_S):
        while any(_is_awaited(account, image) for image in snapshot.images):  # noqa: ASYNC110  # many events
            await trio.sleep(POLL_S)
    known = (account.known_details(image.image_id) for image in snapshot.images)
    sizes = [details.size_bytes or 0 for details in known if details is not None]
    return Usage(sum(sizes), len(snapshot.images))


def _is_awaited(account: Account, image: ListedImage) -> bool:
    """Whether the image's size is still to come."""
    return (
        image.phase is Phase.ACTIVE
        and account.known_details(image.image_id) is None
        and account.error_of(image.image_id) is None
    )
