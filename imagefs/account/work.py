"""What is under way in the account, as the status shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from imagefs.account.journal import Journal
from imagefs.account.snapshot import Snapshot
from imagefs.core.intents import Creation
from imagefs.core.models import Phase


@dataclass(frozen=True, slots=True)
class Work:
    """One thing that is not finished.

    ``image_id`` is None where the service has not given it yet, ``source_id`` what a replica is made of, and
    ``began_s`` seconds since the epoch, where that is known. The kind ``image`` is one that somebody else asked for.
    """

    kind: Literal["replica", "move", "fetch", "deletion", "image"]
    image_id: str | None
    source_id: str | None
    name: str
    region: str
    began_s: float | None = None


def work_of(journal: Journal, snapshot: Snapshot) -> list[Work]:
    """All that the journal holds, then what else the listing shows as pending."""
    own = list(_journaled(journal, snapshot))
    known = {work.image_id for work in own}
    return own + [
        Work("image", image.image_id, None, image.name, image.region)
        for image in snapshot.images
        if image.phase is Phase.PENDING and image.image_id not in known
    ]


def _journaled(journal: Journal, snapshot: Snapshot) -> Iterator[Work]:
    for creation in journal.creations:
        made = creation.intent
        yield Work(_kind(made), made.image_id, made.source_id, made.name, made.region, made.began_ns / 1e9)
    for deletion in journal.deletions:
        image_id = deletion.intent.image_id
        image = snapshot.by_id.get(image_id)
        yield Work("deletion", image_id, None, image.name if image else "", image.region if image else "")


def _kind(creation: Creation) -> Literal["replica", "move", "fetch"]:
    if creation.source_id is None:
        return "fetch"
    return "move" if creation.move else "replica"
