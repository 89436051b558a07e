"""From written bytes to an active image: publish, have it fetched, wait, withdraw. On trio's thread.

Used by the tree's drafts, for content that no image of the account has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import trio

from imagefs.core.control_lines import FetchRequest
from imagefs.core.formats import HEAD_BYTES, image_format, qcow2_l1_table
from imagefs.core.models import ContentKey
from imagefs.core.text import sentence
from imagefs.errors import ImageFailed, ImagefsError, Unreachable
from imagefs.publish.offer import Offer, Readable
from imagefs.publish.server import ContentServer, listen
from imagefs.publish.settings import PublishSettings

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_OFFERS: Final = 4
"""How many contents are published at once; others wait for their turn."""

FIRST_REQUEST_S: Final = 600.0
"""How long the service may take to ask for a content that it has accepted."""

LARGEST_TABLE_BYTES: Final = 1 << 20
"""A larger L1 table is not looked at: that of a disk of 64 TiB has this size."""

EXPIRY_S: Final = 24 * 3600.0
"""How long a content is published at most."""


class Fetching(Protocol):
    """The part of :class:`imagefs.account.Account` that this room needs."""

    async def fetch(self, request: FetchRequest, region: str, expected: ContentKey | None = None) -> str:
        """Have the service download an image; its id."""

    async def wait_active(self, image_id: str) -> None:
        """Wait until an image is active, and like *expected*."""

    async def note_failure(self, image_id: str, text: str) -> None:
        """Keep *text* as why an image is not what was asked for."""

    def note_error(self, image_id: str, text: str | None) -> None:
        """Keep *text* as the image's last failure."""


@dataclass(eq=False, slots=True)
class Upload:
    """A content that the service has accepted to fetch; ``error`` is set before ``ended`` where it failed."""

    image_id: str
    key: ContentKey
    ended: trio.Event = field(default_factory=trio.Event)
    error: ImagefsError | None = None

    async def wait(self) -> None:
        """Wait until the image is active and has the content; raises why it will not be."""
        await self.ended.wait()
        if self.error is not None:
            raise copy(self.error)


class Publisher:
    """Publishes what is written into one mount."""

    def __init__(
        self,
        account: Fetching,
        settings: PublishSettings,
        disk_threads: trio.CapacityLimiter,
        spawn: Callable[..., object],
    ) -> None:
        self._account = account
        self._settings = settings
        self._disk_threads = disk_threads
        self._spawn = spawn
        self._offers: dict[str, Offer] = {}
        self._turns = trio.Semaphore(MAX_OFFERS)
        self._server = ContentServer(self._offers.get)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, tell *task_status*, and serve until cancelled; raises SetupError before that."""
        settings = self._settings
        listeners = await listen(settings.host, settings.port, settings.tls_context())
        if settings.url.startswith("http:"):
            logger.warning(
                "What is written into the mount travels to the service unencrypted: %s", settings.url
            )
        task_status.started()
        await self._server.serve(listeners)

    @property
    def offers(self) -> Sequence[Offer]:
        """What is published now."""
        return tuple(self._offers.values())

    async def publish(self, region: str, name: str, content: Readable) -> Upload:
        """Have the service make an image called *name* of *content*; returns once it has accepted.

        From then on *content* belongs to this object, which closes it when the upload has ended; if this raises, it
        still belongs to the caller. Raises NotSupported for content that the service cannot use, ServiceError,
        StoreError.
        """
        head = await self._in_thread(content.read, 0, HEAD_BYTES)
        kind = image_format(head, name)
        # Of what was not written in order it takes as long as reading it, which the end of a mount does not wait for.
        md5 = await trio.to_thread.run_sync(content.md5, abandon_on_cancel=True, limiter=self._disk_threads)
        key = ContentKey(content.size_bytes, md5)
        await self._turns.acquire()
        offer = Offer(region, name, content, key.checksum or "", self._disk_threads)
        self._offers[offer.token] = offer
        try:
            request = FetchRequest(offer.url(self._settings.url), name, kind)
            offer.image_id = await self._account.fetch(request, region, key)
            upload = Upload(offer.image_id, key)
        except BaseException:
            self._offers.pop(offer.token)
            self._turns.release()
            await offer.end_downloads()  # the service may have begun before its answer was lost
            raise
        logger.info("%r is published as image %s until the service has fetched it.", name, upload.image_id)
        self._spawn(self._see_through, offer, upload)
        return upload

    async def is_blank(self, content: Readable) -> bool:
        """Whether *content* is a qcow2 image of an empty disk: qemu-img makes that first, and reopens it to fill it.

        Raises StoreError.
        """
        table = qcow2_l1_table(await self._in_thread(content.read, 0, HEAD_BYTES))
        if table is None or table[1] > LARGEST_TABLE_BYTES or table[0] > content.size_bytes:
            return False
        return not any(await self._in_thread(content.read, *table))

    async def _see_through(self, offer: Offer, upload: Upload) -> None:
        """Wait for the end of an upload. Raises nothing: a bug in a task like this one would end the mount."""
        try:
            await self._until_active(offer, upload.image_id)
            logger.info("Image %s is active, and has the content of %r.", upload.image_id, offer.name)
        except ImagefsError as error:
            upload.error = type(error)(f"{sentence(error)} {self._account_of(offer)}")
            logger.warning("%r could not be uploaded: %s", offer.name, upload.error)
            if isinstance(error, ImageFailed):
                await self._account.note_failure(upload.image_id, str(upload.error))
            else:
                self._account.note_error(upload.image_id, str(upload.error))
        except trio.Cancelled:
            logger.warning(
                "The upload of %r ends with the mount: image %s may fail.", offer.name, upload.image_id
            )
            raise
        except Exception as bug:
            logger.exception("A bug in the upload of %r.", offer.name)
            upload.error = ImagefsError(f"{offer.name!r} could not be uploaded: {bug!r}")
        finally:
            await self._withdraw(offer)
            upload.ended.set()

    async def _until_active(self, offer: Offer, image_id: str) -> None:
        """Raises ImageFailed, NotFound, or Unreachable where the service does not ask, or takes too long."""
        began = offer.requests > 0  # before the service had answered
        with trio.move_on_after(EXPIRY_S if began else FIRST_REQUEST_S) as patience:
            offer.asked = lambda: setattr(patience, "deadline", trio.current_time() + EXPIRY_S)
            await self._account.wait_active(image_id)
        if patience.cancelled_caught:
            raise Unreachable(f"Image {image_id} did not become active in time.")

    def _account_of(self, offer: Offer) -> str:
        """How often the service asked for the content, for the end of a message."""
        if not offer.requests:
            return f"The service never asked for it: it may not reach {self._settings.url}."
        return (
            f"The service asked {offer.requests} times for it, and was sent {offer.sent.total_bytes} of"
            f" {offer.size_bytes} bytes."
        )

    async def _withdraw(self, offer: Offer) -> None:
        self._offers.pop(offer.token, None)
        self._turns.release()
        await offer.withdraw()

    async def _in_thread(self, call: Callable[..., T], *args: object) -> T:
        return await trio.to_thread.run_sync(call, *args, limiter=self._disk_threads)
