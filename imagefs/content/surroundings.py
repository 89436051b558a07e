"""What contents get from outside, in one value that all of a mount share.

Put together by the application; used on trio's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from imagefs.content.link import Link
from imagefs.content.settings import ContentSettings
from imagefs.content.traffic import Traffic
from imagefs.content.transfer import Retriever


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The way to the service and to this process's threads and loop.

    ``spawn`` starts a background task; ``post`` calls a function on trio's thread from any other, in order;
    ``note_error`` takes an image's id and what went wrong with it, for people to read; ``doubt`` takes the id of an
    image whose content is not what its details say.
    """

    retriever: Retriever
    link: Link
    spawn: Callable[..., None]
    post: Callable[..., None]
    clock: Callable[[], float]
    transfer_threads: trio.CapacityLimiter
    disk_threads: trio.CapacityLimiter
    hash_threads: trio.CapacityLimiter
    note_error: Callable[[str, str], None]
    doubt: Callable[[str], trio.Event]
    traffic: Traffic = field(default_factory=Traffic)
    settings: ContentSettings = field(default_factory=ContentSettings)
