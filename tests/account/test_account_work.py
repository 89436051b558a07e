"""What the status says about changes that are not finished, and about images that are pending."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from account_fakes import image

from imagefs.account import Snapshot
from imagefs.account.journal import Journal
from imagefs.account.work import Work, work_of
from imagefs.core.intents import Creation, Deletion


def journal(*intents: Creation | Deletion) -> Journal:
    """A journal that holds *intents*."""
    entries = [SimpleNamespace(intent=intent) for intent in intents]
    kinds = {
        kind: [entry for entry in entries if isinstance(entry.intent, kind)] for kind in (Creation, Deletion)
    }
    return cast(Journal, SimpleNamespace(creations=kinds[Creation], deletions=kinds[Deletion]))


def test_each_kind_is_told_once() -> None:
    """What this mount does itself, with its beginning; and what others have the service do."""
    snapshot = Snapshot((image("1", status="queued"), image("2", status="saving"), image("3"), image("4")), 0)
    made = journal(
        Creation("montreal", "b", 5 * 10**9, ("a",), source_id="3", image_id="1"),
        Creation("montreal", "c", 6 * 10**9, ("a",), source_id="3", move=True),
        Creation("toronto", "d.iso", 7 * 10**9, ("d.iso",), location="http://x/d.iso"),
        Deletion("4"),
        Deletion("gone"),
    )
    assert work_of(made, snapshot) == [
        Work("replica", "1", "3", "b", "montreal", 5.0),
        Work("move", None, "3", "c", "montreal", 6.0),
        Work("fetch", None, None, "d.iso", "toronto", 7.0),
        Work("deletion", "4", None, "image 4", "toronto"),
        Work("deletion", "gone", None, "", ""),
        Work("image", "2", None, "image 2", "toronto"),
    ]
