"""The emulator as a Python object: what tests, the demo and the command line start, fill and look at.

Its methods can be called from any thread.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import ssl
import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, BinaryIO, Self

from imagefs.emulator.account import Account
from imagefs.emulator.actions import Actions
from imagefs.emulator.content import Content, blocks_of, synthetic_blocks
from imagefs.emulator.faults import FaultPlan
from imagefs.emulator.fetching import Fetcher
from imagefs.emulator.images import Image
from imagefs.emulator.ledger import Ledger
from imagefs.emulator.server import HOST, Server
from imagefs.emulator.site import Site
from imagefs.emulator.switches import Switches
from imagefs.emulator.wire import ApiKey, SignatureCheck


class EmulatorError(Exception):
    """The emulator cannot start; the message is one line for the person who started it."""


class Emulator:
    """A stand-in for the service, listening on 127.0.0.1, with an account that is kept in *data_dir*.

    *port* 0 takes a free one. *api_id* (16 characters) and *api_key* (128) are those of the last time, or
    made up, where they are not given. *tls* is a certificate and its key, as PEM files. *clock* tells
    seconds since the epoch. Use it as a context manager, or call ``start``, ``stop`` and ``close``; started
    again it has the same port. Faults and ledger are kept over that, but not by another Emulator. Raises
    EmulatorError where *data_dir* or *tls* cannot be used.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        api_id: str | None = None,
        api_key: str | None = None,
        switches: Switches | None = None,
        tls: tuple[Path, Path] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.switches = switches or Switches()
        self.faults = FaultPlan()
        self.ledger = Ledger()
        self.data_dir = data_dir
        self._tls = _tls_context(tls)
        self._clock = clock
        self._port = port
        self._lock_file = _locked(data_dir)
        try:
            self._key = _kept_key(self.credentials_file, api_id, api_key)
            self._account = Account(data_dir, clock)
        except (OSError, ValueError, sqlite3.Error) as error:
            self._lock_file.close()
            raise EmulatorError(f"The data directory {data_dir} cannot be used: {error}.") from error
        self._closing = Event()
        self._server: Server | None = None

    @property
    def api_url(self) -> str:
        """The base of all calls, such as ``http://127.0.0.1:8080/api/``."""
        return f"{self.root_url}api/"

    @property
    def root_url(self) -> str:
        """What ``plain/``, ``content/`` and ``control/`` are appended to."""
        return f"{'https' if self._tls else 'http'}://{HOST}:{self._port}/"

    @property
    def api_id(self) -> str:
        """The account's API ID."""
        return self._key.api_id

    @property
    def api_key(self) -> str:
        """The account's API key."""
        return self._key.api_key

    @property
    def credentials_file(self) -> Path:
        """A TOML file with ``api_id`` and ``api_key``, readable by its owner only."""
        return self.data_dir / "credentials.toml"

    def start(self) -> None:
        """Begin to serve. Raises EmulatorError where the port cannot be had."""
        self._closing = Event()
        site = Site(
            self._account,
            self.switches,
            SignatureCheck(self._key),
            Actions(self._account, self.switches, Fetcher(self._account, self._closing, self._clock)),
            self.faults,
            self.ledger,
            self._clock,
        )
        try:
            self._server = Server(site, self.switches, self._port, self._closing, self._tls)
        except OSError as error:
            raise EmulatorError(f"Port {self._port} of {HOST} cannot be used: {error.strerror}.") from error
        self._port = self._server.port
        self._server.start()

    def stop(self) -> None:
        """Cut every connection and stop serving; the account can still be looked at and changed."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def close(self) -> None:
        """Stop, and let go of the data directory; a second time does nothing."""
        self.stop()
        self._account.close()
        self._lock_file.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except EmulatorError:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- filling the account, and changing it behind the client's back ---

    def add_image(
        self,
        name: str,
        region: str,
        content: bytes | Path,
        *,
        status: str = "active",
        disk_format: str = "iso",
        public: bool = False,
        image_id: str | None = None,
        time_created: str | None = None,
        **details_overrides: Any,
    ) -> str:
        """Add an image with those bytes, or those of a file, and tell its id.

        A *status* other than active stays until ``set_status``. *details_overrides* replace fields of
        ``image/details`` as they are, None leaves one out. Raises ValueError where an image has *image_id*.
        """
        stored = self._account.contents.add(blocks_of(content))
        fields: dict[str, Any] = {"time_created": time_created} if time_created is not None else {}
        image = self._account.create(
            name,
            region,
            status=status,
            public=public,
            image_id=image_id,
            content=stored,
            disk_format=disk_format,
            overrides=details_overrides,
            **fields,
        )
        return image.image_id

    def add_synthetic(self, name: str, region: str, size_bytes: int, seed: int = 0, **fields: Any) -> str:
        """Add an active image of pseudo-random bytes that *seed* decides, and tell its id.

        *fields* are those of ``add_image``.
        """
        stored = self._account.contents.add(synthetic_blocks(size_bytes, seed))
        image = self._account.create(name, region, status="active", content=stored, **fields)
        return image.image_id

    def add_listed(self, names: Iterable[str], region: str, content: bytes = b"") -> list[str]:
        """Add an active image of each name, all with the same bytes, and tell their ids: for thousands."""
        stored = self._account.contents.add(blocks_of(content))
        return self._account.create_all(names, region, stored)

    def image(self, image_id: str) -> Image:
        """The image with that id as it is now. Raises Refusal where there is none."""
        return self._account.get(image_id)

    def images(self) -> list[Image]:
        """All images as they are now."""
        return self._account.images()

    def content(self, image_id: str) -> Path:
        """The file with the image's true bytes. Raises ValueError where it has none."""
        stored = self._account.get(image_id).content
        if stored is None:
            raise ValueError(f"The image {image_id} has no content.")
        return self._account.contents.path(stored)

    def set_status(self, image_id: str, status: str) -> None:
        """Give an image that status, for good. Raises Refusal where there is none with that id."""
        self._account.change(image_id, status=status, settling=None)

    def set_details(self, image_id: str, **details_overrides: Any) -> None:
        """Replace fields of the image's details as they are; None leaves one out. Raises Refusal."""
        image = self._account.get(image_id)
        self._account.change(image_id, overrides={**image.overrides, **details_overrides})

    def change_content(self, image_id: str, content: bytes | Path) -> Content:
        """Give an image other bytes under the same id. Raises Refusal where there is none with that id."""
        stored = self._account.contents.add(blocks_of(content))
        self._account.change(image_id, content=stored)
        return stored

    def rename_image(self, image_id: str, name: str) -> None:
        """Rename an image, a public template too. Raises Refusal where there is none with that id."""
        self._account.change(image_id, name=name)

    def remove_image(self, image_id: str) -> None:
        """Remove an image, a public template too. Raises Refusal where there is none with that id."""
        self._account.remove(image_id)


def _tls_context(tls: tuple[Path, Path] | None) -> ssl.SSLContext | None:
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(*tls)
    except OSError as error:
        raise EmulatorError(f"The certificate {tls[0]} with key {tls[1]} cannot be used: {error}.") from error
    return context


def _locked(data_dir: Path) -> BinaryIO:
    """A file that, while it is open, holds the lock of *data_dir*, which is created where it is missing."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock_file = (data_dir / "lock").open("wb")
    except OSError as error:
        raise EmulatorError(f"The data directory {data_dir} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock_file.close()
        raise EmulatorError(f"Another emulator is using the data directory {data_dir}.") from error
    return lock_file


def _kept_key(path: Path, api_id: str | None, api_key: str | None) -> ApiKey:
    """The credentials given, else those kept at *path*, else new ones; kept there for the next time."""
    kept: dict[str, Any] = {}
    if path.exists():
        kept = tomllib.loads(path.read_text(encoding="utf-8"))
    key = ApiKey(
        api_id or kept.get("api_id") or secrets.token_hex(8),
        api_key or kept.get("api_key") or secrets.token_hex(64),
    )
    written = path.with_suffix(".part")
    written.unlink(missing_ok=True)
    part_fd = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(part_fd, "w", encoding="utf-8") as file:
        file.write(f'api_id = "{key.api_id}"\napi_key = "{key.api_key}"\n')
    written.rename(path)
    return key
