"""A plain model of an account: which images it holds, under which names a mount shows them, and what may be under way.

Written from what is promised to people, without any of the product's code.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from imagefs.emulator.images import Image

REGIONS: Final = ("toronto", "montreal", "roubaix")
EXTENSIONS: Final = (".iso", ".qcow2", ".img", ".raw")


@cache
def content_of(number: int) -> bytes:
    """The bytes of content *number*: each is another, and every third has the same size."""
    return random.Random(number).randbytes(3_001 + number % 3 * 150_000)


@dataclass(frozen=True, slots=True)
class Held:
    """An image as it should be in the account, once nothing is under way. ``failed``: the service could not make it."""

    region: str
    name: str
    checksum: str
    failed: bool = False


def held(image: Image) -> Held:
    """What the service has."""
    return Held(
        image.region,
        image.name,
        image.content.checksum if image.content else "",
        failed=image.status == "killed",
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an account may come to hold: the known images by id, and new ones, whose ids the service chooses."""

    images: Mapping[str, Held]
    new: tuple[Held, ...] = ()

    def is_met_by(self, images: Iterable[Image]) -> bool:
        """Whether *images* are just these, and at rest."""
        found = list(images)
        if any(image.settling is not None for image in found):
            return False
        known = {image.image_id: held(image) for image in found if image.image_id in self.images}
        others = Counter(held(image) for image in found if image.image_id not in self.images)
        return known == self.images and others == Counter(self.new)


@dataclass(slots=True)
class Model:
    """The account as a person who did all of this would expect it.

    ``images`` are those that are there to stay, by id. ``leaving`` are hidden sources of moves, and deleted images
    that something may still need: id to the replica that has to be active first, or None. ``doubtful`` may stay or
    go, as what a person asked for was taken back half-way. ``fresh`` are the images with work under way.
    ``ghosts`` are gone or renamed behind the mount's back, which may not know yet.
    """

    images: dict[str, Held] = field(default_factory=dict)
    leaving: dict[str, str | None] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    ghosts: dict[str, Held] = field(default_factory=dict)
    stale: bool = False

    def shown(self) -> dict[str, Held]:
        """The images that the mount shows, as far as it knows."""
        visible = {image_id: one for image_id, one in self.images.items() if image_id not in self.leaving}
        return {**visible, **self.ghosts}

    def files(self, region: str) -> dict[str, str]:
        """File name to image id in *region*: each of several with one name carries its id."""
        here = {image_id: one.name for image_id, one in self.shown().items() if one.region == region}
        uses = Counter(here.values())
        return {
            name if uses[name] == 1 else name_with_id(name, image_id): image_id
            for image_id, name in here.items()
        }

    def file_of(self, image_id: str) -> tuple[str, str]:
        """(region, file name) of a shown image; the one that always means it where others may have its name."""
        one = self.shown()[image_id]
        if self.stale:
            return one.region, name_with_id(one.name, image_id)
        return one.region, next(name for name, found in self.files(one.region).items() if found == image_id)

    def has_name(self, region: str, name: str) -> bool | None:
        """Whether a file of that name is there; None where several images share it.

        None of these is found by it, but for the one that a program has just given it: names live for a second.
        """
        uses = sum((one.region, one.name) == (region, name) for one in self.shown().values())
        return None if uses > 1 else name in self.files(region)

    def elsewhere(self, region: str, checksum: str) -> set[str]:
        """The images outside *region* that have that content, so that they can be replicated."""
        return {
            image_id
            for image_id, one in self.shown().items()
            if one.region != region and one.checksum == checksum and not one.failed
        }

    def after(self, *, without: str | None = None, renamed: tuple[str, str] | None = None) -> dict[str, Held]:
        """The images at rest, less one of them, or with one renamed to another name."""
        gone = {*self.leaving, without}
        rest = {image_id: one for image_id, one in self.images.items() if image_id not in gone}
        if renamed is not None and renamed[0] in rest:
            rest[renamed[0]] = replace(rest[renamed[0]], name=renamed[1])
        return rest

    def unsound(self, images: Iterable[Image]) -> list[str]:
        """What *images*, taken from the service at any moment, break of what always holds."""
        found = {image.image_id: image for image in images}
        problems = [
            f"image {image_id} was made and nobody asked for it"
            for image_id in found.keys() - self.images.keys()
        ]
        for image_id, one in self.images.items():
            image = found.get(image_id)
            if image is None:
                problems += self._lost(image_id, found)
            elif (image.region, held(image).checksum) != (one.region, one.checksum) and image.content:
                problems.append(f"image {image_id} is another one: {image}")
            elif image.name != one.name and image_id not in self.fresh:
                problems.append(f"image {image_id} is called {image.name!r}, not {one.name!r}")
        return problems

    def _lost(self, image_id: str, found: Mapping[str, Image]) -> list[str]:
        if image_id not in self.leaving:
            return [f"image {image_id} is lost"]
        replica_id = self.leaving[image_id]
        if replica_id is None or replica_id not in self.images or self.images[replica_id].failed:
            return []
        replica = found.get(replica_id)
        if replica is None:  # it has become the source of another move, or was removed itself
            return self._lost(replica_id, found)
        if replica.status != "active":
            return [f"image {image_id} was deleted before its replica {replica_id} was active"]
        return []

    def adopt(self, images: Iterable[Image]) -> None:
        """Everything is at rest, and as *images* are."""
        self.images = {image.image_id: held(image) for image in images}
        self.leaving.clear()
        self.fresh.clear()


def name_with_id(name: str, image_id: str) -> str:
    """The name that means this image at any time."""
    for extension in EXTENSIONS:
        if name.endswith(extension):
            return f"{name.removesuffix(extension)}~{image_id}{extension}"
    return f"{name}~{image_id}"
