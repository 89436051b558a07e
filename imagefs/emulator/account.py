"""What the emulated account holds: its images, and how they change with time.

The one place with mutable images, used by the actions, the control plane and the Python interface, on any
thread: each public method takes the lock. Time is looked at when somebody asks, so that no timer is needed
and a replica goes on settling while the emulator is not running.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

from imagefs.emulator.content import Content, ContentDirectory
from imagefs.emulator.image_table import ImageTable
from imagefs.emulator.images import Image, Settling, advanced, page_time
from imagefs.emulator.wire import Refusal, rendered

REGIONS = ("toronto", "montreal", "roubaix")
FIRST_ID = 141119
FIRST_PUBLIC_ID = 5000


class Account:
    """The images under *data_dir*. *clock* tells seconds since the epoch."""

    def __init__(self, data_dir: Path, clock: Callable[[], float] = time.time) -> None:
        self.contents = ContentDirectory(data_dir / "content")
        self._clock = clock
        self._lock = RLock()
        self._table = ImageTable(data_dir / "account.sqlite3")
        self._images = {image.image_id: image for image in self._table.images()}
        self._unsettled = {image.image_id for image in self._images.values() if image.settling is not None}
        self._closed = False
        self._listings: dict[tuple[str | None, bool], bytes] = {}
        self._frozen = False
        for image_id in tuple(self._unsettled):
            self._kill_interrupted_fetch(self._images[image_id])
        self.contents.keep_only({image.content for image in self._images.values() if image.content})

    def close(self) -> None:
        """Close the files on disk."""
        with self._lock:
            self._closed = True
            self._table.close()

    def get(self, image_id: str) -> Image:
        """The image with that id, as it is now. Raises Refusal where there is none."""
        with self._lock:
            self._settle()
            image = self._images.get(image_id)
            if image is None:
                raise Refusal("invalid image")
            return image

    def images(self) -> list[Image]:
        """All images as they are now, in the order in which they were added."""
        with self._lock:
            self._settle()
            return list(self._images.values())

    def regions(self) -> list[str]:
        """The documented regions, then any other that an image is in."""
        others = {image.region for image in self.images()}.difference(REGIONS)
        return [*REGIONS, *sorted(others)]

    def listing(self, region: str | None, *, with_success: bool, frozen: bool = False) -> bytes:
        """The body of an answer to ``image/list``, of one region or all; kept until an image changes.

        One that is *frozen* is kept for as long as all that are asked for are.
        """
        with self._lock:
            self._settle()
            if frozen != self._frozen:
                self._frozen = frozen
                self._listings.clear()
            key = (region, with_success)
            if key not in self._listings:
                rows = [image.listed() for image in self._images.values() if region in (None, image.region)]
                payload: dict[str, Any] = {"images": rows}
                if with_success:
                    payload["success"] = "yes"
                self._listings[key] = rendered(payload)
            return self._listings[key]

    def create(
        self,
        name: str,
        region: str,
        *,
        status: str,
        public: bool = False,
        image_id: str | None = None,
        **fields: Any,
    ) -> Image:
        """Add an image with a new id, or with the one given, and the fields of ``Image``.

        Raises ValueError where an image has that id.
        """
        with self._lock:
            if image_id is None:
                image_id = self._new_id(public)
            elif image_id in self._images:
                raise ValueError(f"There is an image {image_id} already.")
            fields.setdefault("time_created", page_time(self._clock()))
            image = Image(image_id, name, region, status, public=public, **fields)
            self._put(image)
            return image

    def create_all(self, names: Iterable[str], region: str, content: Content) -> list[str]:
        """Add an active image of each name, all with *content*, and tell their ids: all of them or none."""
        with self._lock, self._table.transaction():
            return [self.create(name, region, status="active", content=content).image_id for name in names]

    def create_pending(
        self, name: str, region: str, *, saving_s: float | None, source: Image | None = None, **fields: Any
    ) -> Image:
        """Add an image that is queued, then saving, then active after *saving_s* or as ``settle`` says."""
        now_s = self._clock()
        settling = Settling(
            saving_at_s=now_s + (saving_s or 0.0) / 4,
            settles_at_s=None if saving_s is None else now_s + saving_s,
            source_id=source.image_id if source else None,
        )
        return self.create(name, region, status="queued", settling=settling, **fields)

    def settle(self, image_id: str, *, becomes: str, at_s: float, content: Content | None = None) -> None:
        """Let a pending image become active or killed at *at_s*.

        Does nothing where the image was deleted, or the account closed, while its content was on the way.
        """
        with self._lock:
            image = self._images.get(image_id)
            if self._closed or image is None or image.settling is None:
                return
            settling = replace(image.settling, settles_at_s=at_s, becomes=becomes)
            self._put(replace(image, settling=settling, content=content or image.content))

    def change(self, image_id: str, **fields: Any) -> Image:
        """Replace some fields of an image. Raises Refusal where there is none with that id."""
        with self._lock:
            changed = replace(self.get(image_id), **fields)
            self._put(changed)
            return changed

    def remove(self, image_id: str) -> None:
        """Remove an image. The replicas that are still being made of it are killed. Raises Refusal."""
        with self._lock:
            self.get(image_id)
            del self._images[image_id]
            self._unsettled.discard(image_id)
            self._forget_listings()
            self._table.remove(image_id)
            for other_id in tuple(self._unsettled):
                settling = self._images[other_id].settling
                if settling is not None and settling.source_id == image_id:
                    self.change(other_id, status="killed", settling=None)

    def _new_id(self, public: bool) -> str:
        series, first = ("public", FIRST_PUBLIC_ID) if public else ("account", FIRST_ID)
        while (image_id := str(self._table.next_id(series, first))) in self._images:
            pass
        return image_id

    def _put(self, image: Image) -> None:
        self._images[image.image_id] = image
        self._forget_listings()
        self._table.put(image)
        if image.settling is None:
            self._unsettled.discard(image.image_id)
        else:
            self._unsettled.add(image.image_id)

    def _forget_listings(self) -> None:
        if not self._frozen:
            self._listings.clear()

    def _settle(self) -> None:
        now_s = self._clock()
        for image_id in tuple(self._unsettled):
            image = self._images[image_id]
            settled = advanced(image, now_s)
            if settled is not image:
                self._put(settled)

    def _kill_interrupted_fetch(self, image: Image) -> None:
        if image.settling is not None and image.settling.settles_at_s is None:
            self._put(replace(image, status="killed", settling=None))
