"""What the mount has set out to do to the account, and must not forget: frozen values, and their JSON.

Written to the journal by ``imagefs.account`` before the first call that each stands for, kept by
``imagefs.store``. Pure; any thread. ASCII only: the escapes of JSON carry lone surrogates, which UTF-8 cannot.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Creation:
    """A new image on its way: a replica of ``source_id``, or a fetched one where that is None.

    ``name`` is the one that it is to have; ``first_names`` are those that the service may give it at first, or that
    it was to have before. ``known_ids`` are the images of ``region`` before the call: an image not among them may be
    the new one. ``image_id`` is the new image's id, once the service has named it. ``size_bytes`` and ``checksum`` are
    those of the source, or of what is uploaded; ``move``: the source is deleted once the replica has both.
    ``location`` is where a fetched image comes from, fit to be shown. ``began_ns`` is nanoseconds since the epoch.
    """

    region: str
    name: str
    began_ns: int
    first_names: tuple[str, ...]
    source_id: str | None = None
    size_bytes: int | None = None
    checksum: str | None = None
    move: bool = False
    location: str | None = None
    known_ids: frozenset[str] = frozenset()
    image_id: str | None = None


@dataclass(frozen=True, slots=True)
class Deletion:
    """An image that is to be deleted as soon as nothing needs it any more and the service permits it.

    At the end of a move, ``replica_id`` is the image that takes its place: both must be active with this
    ``size_bytes`` and ``checksum``, or the image stays. ``awaits`` are images that somebody else may be making of it:
    it is deleted once they are active or gone, and stays if one of them fails. ``promised``: the service has named the
    image, but did not know it yet when it was asked to delete it.
    """

    image_id: str
    replica_id: str | None = None
    size_bytes: int | None = None
    checksum: str | None = None
    awaits: tuple[str, ...] = ()
    promised: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """What is remembered of images for as long as one of them is there: an error, or where it was fetched from.

    ``failed``: the image is not what was asked for.
    """

    image_ids: tuple[str, ...]
    error: str | None = None
    failed: bool = False
    location: str | None = None


Intent = Creation | Deletion | Remark

_KINDS: Final[dict[str, type[Intent]]] = {"creation": Creation, "deletion": Deletion, "remark": Remark}
_TUPLES: Final = ("first_names", "image_ids", "awaits")


def dump_intent(intent: Intent) -> bytes:
    """An intent as JSON."""
    record = asdict(intent)
    if isinstance(intent, Creation):
        record["known_ids"] = sorted(intent.known_ids)
    kind = next(kind for kind, values in _KINDS.items() if isinstance(intent, values))
    return json.dumps([kind, record], separators=(",", ":")).encode("ascii")


def load_intent(raw: bytes) -> Intent | None:
    """The intent that `dump_intent` made *raw* from; None for anything else."""
    try:
        kind, record = json.loads(raw)
        for name in _TUPLES:
            if name in record:
                record[name] = tuple(record[name])
        if "known_ids" in record:
            record["known_ids"] = frozenset(record["known_ids"])
        return _KINDS[kind](**record)
    except (KeyError, TypeError, ValueError):
        return None
