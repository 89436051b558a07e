"""How a draft ends: as an image, or refused. On trio's thread."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from imagefs.account import Account
from imagefs.core.models import ContentKey, ListedImage
from imagefs.errors import (
    Busy,
    Exists,
    ImagefsError,
    NotSupported,
    Refused,
    RefusedQuota,
    ServerFailed,
    StoreError,
    Unreachable,
)
from imagefs.vfs.draft_file import DraftFile, SpoolFile

if TYPE_CHECKING:
    from imagefs.publish import Publisher  # only mounts that publish load it

logger = logging.getLogger(__name__)


class Settling:
    """Makes images of drafts, or refuses them."""

    def __init__(
        self,
        account: Account,
        disk_threads: trio.CapacityLimiter,
        spawn: Callable[..., None],
        let_go: Callable[[DraftFile], None],
        publisher: Publisher | None,
    ) -> None:
        """*let_go* is called with each draft that is refused."""
        self.publisher = publisher
        self._account = account
        self._disk_threads = disk_threads
        self._spawn = spawn
        self._let_go = let_go

    async def replicate(self, draft: DraftFile, source: ListedImage, key: ContentKey) -> None:
        """Have *source*, whose content is *key*, replicated under the draft's name."""

        async def ask() -> tuple[str, ContentKey]:
            return await self._account.replicate(source.image_id, draft.region, draft.name), key

        await self._settle(draft, ask)

    async def upload(self, draft: DraftFile, publisher: Publisher, spool: SpoolFile) -> None:
        """Have the service fetch what was written; ``draft.upload`` tells how that goes on."""

        async def ask() -> tuple[str, ContentKey]:
            draft.upload = await publisher.publish(draft.region, draft.name, spool)
            draft.spool = None  # the publisher's by now
            return draft.upload.image_id, draft.upload.key

        await self._settle(draft, ask)

    async def _settle(self, draft: DraftFile, ask: Callable[[], Awaitable[tuple[str, ContentKey]]]) -> None:
        """Settle the draft by what the service answers to *ask*.

        That is a task of its own: a program that was stopped repeats its last request when it continues, and that must
        not make a second image.
        """
        draft.settling = trio.Event()
        self._spawn(self._ask, draft, ask, draft.settling)
        await draft.settled()
        draft.raise_if_refused()

    async def _ask(
        self, draft: DraftFile, ask: Callable[[], Awaitable[tuple[str, ContentKey]]], settled: trio.Event
    ) -> None:
        """Raises nothing: a bug in a task like this one would end the mount."""
        try:
            self._raise_if_taken(draft)
            draft.image_id, draft.key = await ask()
            if draft.mtime_ns is not None:
                await self._account.set_mtime(draft.image_id, draft.mtime_ns)
            logger.info("%r in %s is image %s by now.", draft.filename, draft.region, draft.image_id)
        except ImagefsError as error:
            logger.info("%r in %s is refused: %s", draft.filename, draft.region, error)
            await self.refuse(draft, _reportable(error))
        except Exception as bug:
            logger.exception("A bug in making %r an image.", draft.filename)
            await self.refuse(draft, ImagefsError(f"{draft.filename!r} could not be made an image: {bug!r}"))
        finally:
            settled.set()

    def _raise_if_taken(self, draft: DraftFile) -> None:
        snapshot = self._account.snapshot
        if snapshot is not None and snapshot.names(draft.region).resolve(draft.filename) is not None:
            raise Exists(f"There is a {draft.filename!r} in {draft.region} by now.")

    async def refuse(self, draft: DraftFile, reason: ImagefsError) -> None:
        """The draft leaves its directory, and whoever has it open gets *reason*."""
        if draft.is_open:
            draft.error = reason
            self._let_go(draft)
        await self.close_spool(draft)

    async def close_spool(self, draft: DraftFile) -> None:
        """What was written is not needed any more."""
        spool, draft.spool = draft.spool, None
        if spool is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(spool.close, limiter=self._disk_threads)


def _reportable(error: ImagefsError) -> ImagefsError:
    """*error* as one that every tool reports.

    With most other errno values of a copy, some tool falls back to reading and writing.
    """
    told = (RefusedQuota, Unreachable, Busy, Exists, NotSupported, StoreError)
    if isinstance(error, told) and not isinstance(error, ServerFailed):
        return error
    return Refused(str(error))
