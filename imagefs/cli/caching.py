"""A cache as commands see it: through the mount that has it, or opened by the command itself."""
# ruff: noqa: D102  # what each method does is said once, in the protocol

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import click

from imagefs.cli.asking import CHANGE_S, ask_one, live_mount
from imagefs.cli.mount_options import BY_KEY
from imagefs.cli.settings import Settings
from imagefs.cli.showing import plain
from imagefs.core.models import ContentKey, account_name
from imagefs.errors import SetupError
from imagefs.store import CacheDirectory
from imagefs.vfs.steward import content_row, evict_all

Row = dict[str, Any]

VERIFY_S = 24 * 3600.0
"""Reading a large content from a slow disk takes what it takes; Ctrl-C ends it."""


class Cache(Protocol):
    """What can be done with it. An *image* is a path on the mount, or without a mount an image's ID.

    All raise SetupError or StoreError.
    """

    def rows(self) -> list[Row]:
        """What is cached, the longest unused first, as :func:`imagefs.vfs.steward.content_row`."""

    def clear(self) -> None:
        """Drop everything that is neither pinned nor in use."""

    def evict(self, image: str) -> None:
        """Drop one content."""

    def pin(self, image: str) -> None:
        """Never evict it."""

    def unpin(self, image: str) -> None:
        """Evict it when it is its turn."""

    def verify(self, row: Row) -> tuple[int, int]:
        """Compare what is cached with its checksums: bytes checked, and bytes damaged and dropped."""


@dataclass(frozen=True, slots=True)
class MountedCache:
    """The cache of a mount, which does it all itself."""

    mountpoint: Path

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        while True:
            page = json.loads(self._get(f"user.imagefs.contents.{len(rows)}", self.mountpoint))
            rows += page
            if not page:
                return rows

    def clear(self) -> None:
        self._get("user.imagefs.do.evict", self.mountpoint)

    def evict(self, image: str) -> None:
        self._get("user.imagefs.do.evict", image)

    def pin(self, image: str) -> None:
        self._get("user.imagefs.do.pin", image)

    def unpin(self, image: str) -> None:
        self._get("user.imagefs.do.unpin", image)

    def verify(self, row: Row) -> tuple[int, int]:
        key = f"{row['size']}.{row['checksum'] or ''}.{row['image_id'] or ''}"
        found = json.loads(self._get(f"user.imagefs.verify.{key}", self.mountpoint, VERIFY_S))
        return found["checked"], found["damaged"]

    def _get(self, name: str, path: str | Path, within_s: float = CHANGE_S) -> str:
        return str(ask_one("get", name, path, within_s=within_s)["value"])


class ClosedCache:
    """A cache that no mount has, opened by the command for as long as it runs."""

    def __init__(self, directory: CacheDirectory, account: str) -> None:
        self._directory = directory
        self._details = directory.index.load_details(account)

    def rows(self) -> list[Row]:
        paths = {
            details.content_key: f"{details.region}/{details.name}"
            for details in self._details.values()
            if details.content_key is not None
        }
        return [content_row(row, paths.get(row.key)) for row in self._directory.cached_contents()]

    def clear(self) -> None:
        evict_all(self._directory, self._directory.cached_contents())

    def evict(self, image: str) -> None:
        key = self._key(image)
        if key in self._directory.pins.contents():
            raise SetupError(f"Image {image} is pinned.")
        self._directory.evict(key)

    def pin(self, image: str) -> None:
        self._directory.pins.add(self._key(image))

    def unpin(self, image: str) -> None:
        self._directory.pins.remove(self._key(image))

    def verify(self, row: Row) -> tuple[int, int]:
        found = self._directory.verify(ContentKey(row["size"], row["checksum"], row["image_id"]))
        return found.checked_bytes, found.damaged_bytes

    def _key(self, image: str) -> ContentKey:
        details = self._details.get(image)
        if details is None or details.content_key is None:
            raise SetupError(f"Nothing is known of an image {image!r}: without a mount, name it by its ID.")
        return details.content_key


@contextmanager
def cache_of(settings: Settings) -> Iterator[Cache | None]:
    """The account's cache, however it can be had; None where there is none. Raises SetupError and StoreError."""
    account = settings.credentials()
    path = settings.cache_dir(account.api_id)
    mount = live_mount(account.api_id, settings["api_url"], path)
    if mount is not None:
        yield MountedCache(mount.path)
        return
    if not path.exists():
        yield None
        return
    limit: Any = BY_KEY["cache_size"].default
    directory = CacheDirectory.open(path, owner="(imagefs cache)", max_bytes=limit, min_free_bytes=0)
    for problem in directory.problems:  # no mount finds them any more
        click.echo(f"imagefs: {plain(problem)}", err=True)
    try:
        yield ClosedCache(directory, account_name(settings["api_url"], account.api_id))
    finally:
        directory.close()
