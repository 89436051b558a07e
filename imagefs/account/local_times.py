"""The modification times that tools have set, which the service does not know.

Used by :class:`imagefs.account.Account` on trio's thread; kept in the index, over remounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from imagefs.account.service import Service
from imagefs.account.surroundings import Surroundings
from imagefs.account.view import View
from imagefs.account.writeback import IndexWriter
from imagefs.errors import ServiceError


class LocalTimes:
    """Modification times in nanoseconds since the epoch, by image id, for as long as the image is there."""

    def __init__(self, writer: IndexWriter, service: Service, view: View, around: Surroundings) -> None:
        self._writer = writer
        self._service = service
        self._view = view
        self._around = around
        self._mtimes_ns: dict[str, int] = {}
        self._reviewing = False

    def restore(self, mtimes_ns: Mapping[str, int]) -> None:
        """Start from those of an earlier run."""
        self._mtimes_ns = dict(mtimes_ns)

    def of(self, image_id: str) -> int | None:
        """The time that was set, if there is one."""
        return self._mtimes_ns.get(image_id)

    def keep(self, image_id: str, mtime_ns: int) -> None:
        """Set a time."""
        self._mtimes_ns[image_id] = mtime_ns
        self._writer.keep_mtime(image_id, mtime_ns)

    def forget(self, image_id: str) -> None:
        """The image is gone."""
        if self._mtimes_ns.pop(image_id, None) is not None:
            self._writer.keep_mtime(image_id, None)

    def review(self) -> None:
        """The images that are shown have changed: forget the times of those that others have deleted."""
        if not self._reviewing and self._missing():
            self._around.start(self._forget_gone)
            self._reviewing = True

    async def _forget_gone(self) -> None:
        """One call after the other; images that are just missing from a listing keep theirs."""
        try:
            for image_id in self._missing():
                with suppress(ServiceError):
                    if await self._service.is_gone(image_id):
                        self.forget(image_id)
        finally:
            self._reviewing = False

    def _missing(self) -> list[str]:
        return [
            image_id
            for image_id in self._mtimes_ns
            if self._view.shown(image_id) is None and not self._view.hides(image_id)
        ]
