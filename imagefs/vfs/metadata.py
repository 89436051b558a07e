"""Attributes and extended attributes of nodes. On trio's thread; starts no transfer.

Used by the tree. What the attributes of each kind of node are is up to :mod:`imagefs.vfs.attributes`.
"""

from __future__ import annotations

import math
import os

import trio

from imagefs.account import Account
from imagefs.core.models import ImageDetails, ListedImage
from imagefs.errors import MalformedAnswer, Outdated, Refused, ServiceError
from imagefs.vfs import xattrs
from imagefs.vfs.attributes import AttributeRules, Attributes
from imagefs.vfs.control import ControlFiles
from imagefs.vfs.drafts import Drafts
from imagefs.vfs.files import Files
from imagefs.vfs.nodes import Control, Draft, Image, Node, Region, Root
from imagefs.vfs.resolution import Resolution


class Metadata:
    """What stat(2) and getxattr(2) show."""

    def __init__(
        self,
        account: Account,
        files: Files,
        drafts: Drafts,
        controls: ControlFiles,
        resolution: Resolution,
        rules: AttributeRules,
    ) -> None:
        self._account = account
        self._files = files
        self._drafts = drafts
        self._controls = controls
        self._resolution = resolution
        self._rules = rules

    async def attributes(self, node: Node, patience_s: float = math.inf) -> Attributes:
        """What stat(2) shows. Raises Outdated, and what the service's calls raise.

        An image whose details are still missing after *patience_s*, if that is given, has no size yet.
        """
        if isinstance(node, (Root, Region)):
            return self._rules.of_directory(node)
        if isinstance(node, Control):
            return self._rules.of_control(node, len(self._controls.text(node.region)))
        if isinstance(node, Draft):
            return self._rules.of_draft(node, self._resolution.draft(node))
        image_id = node.image_id
        image = (await self._account.images()).by_id.get(image_id)
        if image is None:
            return self._attributes_of_removed(image_id)
        details = await self._details(image_id, patience_s)
        return self._rules.of_image(image, details, self._account.local_mtime(image_id))

    async def _details(self, image_id: str, patience_s: float) -> ImageDetails | None:
        """None where the service has none, or not in time; it goes on being asked."""
        details = self._account.known_details(image_id)
        if details is None and patience_s > 0:
            with trio.move_on_after(patience_s):
                try:
                    details = await self._account.details(image_id)
                except (Refused, MalformedAnswer):
                    pass
                except ServiceError:
                    if patience_s == math.inf:
                        raise
        return details

    def _attributes_of_removed(self, image_id: str) -> Attributes:
        """An image that is gone from the listing still has attributes while it is open."""
        opened = self._files.open_copy_of(image_id)
        if opened is None:
            raise Outdated(f"Image {image_id} is gone from the account.")
        image, key = opened
        details = ImageDetails(
            image_id, image.name, image.region, image.status, key.size_bytes, key.checksum, None
        )
        return self._rules.of_image(image, details, self._account.local_mtime(image_id), listed=False)

    def known_attributes(self, node: Node) -> Attributes:
        """What is known of *node* without asking anybody."""
        if isinstance(node, (Root, Region)):
            return self._rules.of_directory(node)
        if isinstance(node, Control):
            return self._rules.of_control(node, len(self._controls.text(node.region)))
        if isinstance(node, Draft):
            return self._rules.of_draft(node, self._drafts.get(node.number))
        image = self._account.shown(node.image_id) or ListedImage(node.image_id, "", "", "gone")
        details = self._account.known_details(node.image_id)
        return self._rules.of_image(image, details, self._account.local_mtime(node.image_id))

    async def xattrs(self, node: Node) -> dict[bytes, bytes]:
        """The extended attributes, by name. Raises Outdated."""
        if isinstance(node, Root):
            return xattrs.of_root(os.getpid())
        if not isinstance(node, Image):
            return {}
        image_id = node.image_id
        image = (await self._account.images()).by_id.get(image_id)
        if image is None:
            raise Outdated(f"Image {image_id} is gone from the account.")
        try:
            details = await self._account.details(image_id)
        except ServiceError as failure:  # which the attribute .error is there to tell
            details = None
            if self._account.error_of(image_id) is None:
                self._account.note_error(image_id, str(failure))
        key = details.content_key if details else None
        error = self._account.error_of(image_id) or (details.problem if details else None)
        return xattrs.of_image(
            image,
            details,
            cached_bytes=self._files.cached_bytes(key) if key else 0,
            error=error,
            location=self._account.location_of(image_id),
        )
