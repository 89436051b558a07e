"""Which images a draft's content can be: those of other regions that have it. On trio's thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import chain
from weakref import ref

from imagefs.account import Account, Snapshot
from imagefs.core.models import ContentKey, ListedImage, Phase
from imagefs.errors import ServiceError

logger = logging.getLogger(__name__)


class Matching:
    """Looks for images by what is in them."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._sizes_of: Callable[[], Snapshot | None] = lambda: None
        self._sizes: dict[str, frozenset[int]] = {}

    def elsewhere(self, region: str, key: ContentKey, likely_id: str = "") -> ListedImage | None:
        """An active image outside *region* that has the content *key*, as far as details are known.

        That with *likely_id*, if it has: of several, it is the one that is meant, and another may be a template.
        """
        snapshot = self._account.snapshot
        if snapshot is None:
            return None
        likely = (snapshot.by_id[likely_id],) if likely_id in snapshot.by_id else ()
        for image in chain(likely, snapshot.images):
            if image.region == region or image.phase is not Phase.ACTIVE:
                continue
            details = self._account.known_details(image.image_id)
            if details is not None and details.content_key == key:
                return image
        return None

    async def looked_for_elsewhere(
        self, region: str, key: ContentKey, likely_id: str = ""
    ) -> ListedImage | None:
        """The same; asks for details that are missing, where none that are known will do."""
        found = self.elsewhere(region, key, likely_id)
        if found is None and key.size_bytes in await self.sizes_elsewhere(region, anew=True):
            found = self.elsewhere(region, key, likely_id)
        return found

    async def largest_elsewhere(self, region: str) -> int | None:
        """The largest of :meth:`sizes_elsewhere`; None where there is none."""
        return max(await self.sizes_elsewhere(region), default=None)

    async def sizes_elsewhere(self, region: str, *, anew: bool = False) -> frozenset[int]:
        """The sizes of the active images outside *region*; asks for details that are missing.

        Those of one listing are found out once, as every write needs them, unless *anew*.
        """
        snapshot = await self._account.images()
        if anew or self._sizes_of() is not snapshot:
            self._sizes_of, self._sizes = ref(snapshot), {}
        sizes = self._sizes  # of this listing: while details are asked for, a newer one may get its own
        if region not in sizes:
            sizes[region] = await self._ask_for_sizes(snapshot, region)
        return sizes[region]

    async def _ask_for_sizes(self, snapshot: Snapshot, region: str) -> frozenset[int]:
        candidates = [
            image for image in snapshot.images if image.region != region and image.phase is Phase.ACTIVE
        ]
        for elsewhere in {image.region for image in candidates}:
            self._account.prefetch_details(elsewhere)
        sizes: set[int] = set()
        for image in candidates:
            details = self._account.known_details(image.image_id)
            if details is None:
                try:
                    details = await self._account.details(image.image_id)
                except ServiceError as error:
                    logger.info("Image %s cannot be compared: %s", image.image_id, error)
                    continue
            if details.size_bytes is not None:
                sizes.add(details.size_bytes)
        return frozenset(sizes)
