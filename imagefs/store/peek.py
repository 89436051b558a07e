"""A look at a cache directory from outside: it takes no lock, writes nothing, and works beside a mount.

Used by commands that show what is cached. What cannot be read counts as not known.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from imagefs.core.models import ContentKey, ImageDetails
from imagefs.store.files import allocated_bytes
from imagefs.store.layout import content_name, content_path
from imagefs.store.saved_json import load_details
from imagefs.store.schema import seal_of


def peek_cached_bytes(path: Path, key: ContentKey) -> int:
    """About how many bytes of the content of *key* are in the cache directory *path*: what its file takes on disk."""
    try:
        folder, name = content_path(content_name(key))
        status = (path / "content" / folder / name).lstat()
    except (OSError, ValueError):
        return 0
    return min(key.size_bytes, allocated_bytes(status))


def peek_details(path: Path, account: str) -> dict[str, ImageDetails]:
    """What the index in *path* knew of the account's images when it was last brought to rest, by image id.

    A mount has the index locked and may be writing it. So it is read as a file that does not change (``immutable``,
    sqlite.org/uri.html), and only rows whose seals are right are taken.
    """
    found: dict[str, ImageDetails] = {}
    query = "SELECT account, image_id, fields, seal FROM details WHERE account = ?"
    try:
        uri = f"file:{quote(str(path / 'index'))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            for *columns, seal in connection.execute(query, (account.encode(),)):
                if seal == seal_of("details", *columns):
                    details = load_details(columns[2])
                    found[details.image_id] = details
    except (sqlite3.Error, UnicodeError):
        return found
    return found
