"""Changes of the account by real programs, each accounted for: no image is lost, and none is made twice.

Every change is of an image whose bytes no other has, so that what the account holds of them afterwards tells what was
done, however often and in whatever order.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from campaign import stalls
from campaign.clock import CallClock
from campaign.subjects import Subject
from imagefs.emulator.images import Image


@dataclass(slots=True, eq=False)
class Change:
    """One change that a person asked for. ``status`` is the program's, once it ended.

    ``target`` is the region and name that are wanted. ``wrecked``: the replica was made to fail. ``url`` is what is
    fetched.
    """

    kind: str
    subject: Subject
    target: tuple[str, str]
    status: int | None = None
    message: str = ""
    wrecked: bool = False
    url: str = ""

    @property
    def checksum(self) -> str:
        """The MD5 of the image's bytes."""
        return hashlib.md5(self.subject.content, usedforsecurity=False).hexdigest()

    def __str__(self) -> str:
        return f"{self.kind} of {self.subject} to {'/'.join(self.target)} (status {self.status} {self.message!r})"


Words = Callable[[Path, Path, Change], list[str]]

COMMANDS: Final[dict[str, Words]] = {
    "rename": lambda source, target, _: ["mv", "--no-clobber", str(source), str(target)],
    "move": lambda source, target, _: ["mv", str(source), str(target)],
    "copy": lambda source, target, _: ["cp", str(source), str(target)],
    "copy by cat": lambda source, target, _: ["sh", "-c", 'cat "$0" > "$1"', str(source), str(target)],
    "copy by written bytes": lambda source, target, _: [
        *("dd", f"if={source}", f"of={target}", "bs=128K", "status=none"),
    ],
    "link": lambda source, target, _: ["ln", str(source), str(target)],
    "delete": lambda source, _, __: ["rm", str(source)],
    "fetch": lambda _, target, change: [
        *("sh", "-c", 'echo "$0" > "$1"'),
        f"{change.url} name={change.target[1]}",
        str(target.parent / ".fetch"),
    ],
}
"""Each kind of change, and the program that asks for it."""

COPIES: Final = frozenset({"copy", "copy by cat", "copy by written bytes", "link"})


def carry_out(root: Path, change: Change, clock: CallClock, extra_s: float = 0.0) -> None:
    """Run the program; whatever comes of it is noted."""
    command = COMMANDS[change.kind](
        root / change.subject.region / change.subject.name, root.joinpath(*change.target), change
    )
    kind = "copy" if change.kind in COPIES - {"link"} else "change"  # a link reads nothing
    done = stalls.run(command, kind, " ".join(command), clock, extra_s)
    change.status = done.returncode
    change.message = done.stderr.decode(errors="replace").strip()[-160:]


class Accounts:
    """Compares what was asked with what the account holds. *images* tells its state."""

    def __init__(self, images: Callable[[], Sequence[Image]]) -> None:
        self._images = images

    def held(self, change: Change) -> list[Image]:
        """All images that have the change's bytes, or of a fetch its name."""
        images = self._images()
        if change.kind == "fetch":
            return [image for image in images if image.name == change.target[1]]
        return [
            image
            for image in images
            if image.content is not None and image.content.checksum == change.checksum
        ]

    def harm(self, change: Change) -> tuple[str, str] | None:
        """The promise that is broken for good, and how; None where none is."""
        held = self.held(change)
        shown = ", ".join(f"{image.image_id} {image.region}/{image.name} {image.status}" for image in held)
        made = [image for image in held if image.image_id != change.subject.image_id]
        if len(made) > 1:
            return "never a second image", f"{change}: made {len(made)} times: {shown}"
        if change.kind in ("fetch", "delete"):
            return None
        if not any(image.status == "active" and not image.overrides for image in held):
            return "never a lost image", f"{change}: no good copy is left: {shown or 'nothing'}"
        return None

    def unsettled(self, change: Change) -> str | None:
        """What is not yet as it must become, in words; None where all is."""
        held = self.held(change)
        if any(image.status not in ("active", "killed") for image in held):
            return "an image is still pending"
        here = [image for image in held if image.image_id == change.subject.image_id]
        there = [image for image in held if (image.region, image.name) == change.target]
        asked = change.status == 0
        match change.kind:
            case "rename":
                fine = len(held) == 1 and (bool(there) or not asked)
            case "delete":
                fine = not held or (not asked and len(held) == 1)
            case "fetch":
                fine = len(held) == 1 or (not asked and not held)
            case "move" if change.wrecked:
                fine = bool(here)
            case "move":
                fine = (bool(there) and not here) or (not asked and bool(here))
            case _:
                fine = bool(here) and (bool(there) or not asked or change.wrecked)
        if fine:
            return None
        return (
            "; ".join(f"{image.image_id} {image.region}/{image.name} {image.status}" for image in held)
            or "no image"
        )


def some(rng: random.Random, kind: str, subject: Subject, number: int) -> Change:
    """A change of *subject* with a target of its own."""
    region = subject.region if kind == "rename" else rng.choice(("montreal", "roubaix"))
    return Change(kind, subject, (region, f"{subject.name}.{kind.replace(' ', '-')}{number}.iso"))
