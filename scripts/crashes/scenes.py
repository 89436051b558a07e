"""What a mount is at when it is killed, and what must be in the account in the end.

Programs as people use them, run by a shell in the mount; the account has three images that are never touched but by
the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Set
from dataclasses import dataclass
from typing import Final

SMALL_BYTES: Final = 300_001
LARGE_BYTES: Final = 7 << 20

IMAGES: Final = {
    "small.iso": SMALL_BYTES,
    "one.iso": LARGE_BYTES,
    "two.iso": LARGE_BYTES,
    "three.iso": LARGE_BYTES,
}
"""What the account holds in toronto: bytes of each image, by its name."""

Places = Set[tuple[str, str]]
"""(region, name) of what is in the account."""

HOME: Final[Places] = frozenset(("toronto", name) for name in IMAGES)
SMALL: Final = ("toronto", "small.iso")


@dataclass(frozen=True, slots=True)
class Scene:
    """One scene.

    ``script`` is run by sh in the mount, with the service's plain URL as ``$1`` and the mount point as ``$2``.
    ``is_mounting`` tells that it is about mounting itself, so that the time until the kill counts from its beginning.
    ``before`` is run by a mount that is not killed. ``options`` are the mount's. ``ends`` tells for the places of the
    images that the service has begun to make by the time of the kill what may be in the account in the end.
    """

    name: str
    script: str
    before: str = ""
    options: tuple[str, ...] = ()
    is_mounting: bool = False
    ends: Callable[[Collection[tuple[str, str]]], list[Places]] = lambda _: [HOME]


def _moved(made: Collection[tuple[str, str]]) -> list[Places]:
    return [HOME - {SMALL} | {("montreal", "moved.iso")}] if made else [HOME]


def _copied(made: Collection[tuple[str, str]]) -> list[Places]:
    return [HOME | {("montreal", "copy.iso")}] if made else [HOME]


def _copied_and_removed(made: Collection[tuple[str, str]]) -> list[Places]:
    if not made:
        return [HOME, HOME - {SMALL}]  # a copy that failed does not keep the shell from removing
    return [HOME | {("montreal", "copy.iso")}, HOME - {SMALL} | {("montreal", "copy.iso")}]


def _fetched(made: Collection[tuple[str, str]]) -> list[Places]:
    return [HOME | {("roubaix", "fetched.iso")}] if made else [HOME]


READ_ALL: Final = "cat toronto/*.iso"

SCENES: Final = (
    Scene("download", READ_ALL),
    Scene("eviction", f"{READ_ALL}; {READ_ALL}", options=("--cache-size", "16M")),
    Scene("verification", READ_ALL, before=READ_ALL),
    Scene("replicate", "cp toronto/small.iso montreal/copy.iso && sync montreal/copy.iso", ends=_copied),
    Scene(
        "replicate, delete",
        "cp toronto/small.iso montreal/copy.iso && rm toronto/small.iso; sync montreal/copy.iso",
        ends=_copied_and_removed,
    ),
    Scene("move", "mv toronto/small.iso montreal/moved.iso && sync montreal/moved.iso", ends=_moved),
    Scene(
        "fetch",
        'echo "$1/plain/toronto/small.iso name=fetched.iso format=iso" > roubaix/.fetch; sync roubaix/fetched.iso',
        ends=_fetched,
    ),
    Scene("mount", "true", is_mounting=True),
    Scene("unmount", 'head -c 3000000 toronto/one.iso; cd /; fusermount3 -u "$2"'),
)
