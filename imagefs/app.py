"""The one place where the parts are put together: a mounted account, from its configuration.

Used by the command line. :func:`serve` is the whole life of a mount.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from imagefs import memory
from imagefs.account import Account, AccountSettings
from imagefs.account.stored_account import StoredAccount
from imagefs.api import ServiceClient
from imagefs.content.library import Library
from imagefs.content.link import Link
from imagefs.content.surroundings import Surroundings
from imagefs.core.models import Credentials, account_name
from imagefs.core.text import sentence
from imagefs.errors import CredentialsRefused, Refused, ServiceError, SetupError, StoreError, TlsFailure
from imagefs.fuse import interpose
from imagefs.fuse.operations import Operations
from imagefs.fuse.replies import FREE_BYTES
from imagefs.fuse.requests import Requests
from imagefs.fuse.session import MountOptions, Session
from imagefs.status import LastErrors, MountFacts, Status, remembering_errors
from imagefs.store.directory import CacheDirectory
from imagefs.vfs.attributes import Ownership
from imagefs.vfs.control import ControlFiles
from imagefs.vfs.drafts import Drafts
from imagefs.vfs.files import Files
from imagefs.vfs.indexers import INDEXERS
from imagefs.vfs.steward import Steward
from imagefs.vfs.tree import Tree

if TYPE_CHECKING:
    from imagefs.publish import Publisher, PublishSettings

logger = logging.getLogger(__name__)

TRANSFER_THREADS: Final = 64
DISK_THREADS: Final = 8
HASH_THREADS: Final = max(1, os.cpu_count() or 1)
SHUT_S: Final = 8.0
"""How long open contents get to become durable when the tree is unmounted."""


@dataclass(frozen=True, slots=True)
class MountConfig:
    """All that a mount needs to know. Sizes are in bytes; ``cache_dir`` is this account's own."""

    mountpoint: Path
    credentials: Credentials
    api_url: str
    cache_dir: Path
    cache_size_bytes: int
    min_free_bytes: int
    uid: int
    gid: int
    umask: int = 0
    read_only: bool = False
    no_delete: bool = False
    allow_other: bool = False
    allow_indexers: bool = False
    publish: PublishSettings | None = None
    account_settings: AccountSettings = field(default_factory=AccountSettings)

    @property
    def account_name(self) -> str:
        """What tells this account's listing from others in a shared cache directory."""
        return account_name(self.api_url, self.credentials.api_id)


async def serve(config: MountConfig, ready: Callable[[], None]) -> None:
    """Mount, call *ready* once the tree can be used, and go on until it is unmounted.

    Raises SetupError, CacheInUse, CacheUnusable, or ServiceError where the mount cannot start.
    """
    client = ServiceClient(config.credentials, config.api_url)
    is_first_mount = not config.cache_dir.exists()
    cache = _open_cache(config)
    settings = replace(config.account_settings, read_only=config.read_only, no_delete=config.no_delete)
    account = Account(
        client, StoredAccount(cache.index, cache.journal, config.account_name), settings=settings
    )
    try:
        with remembering_errors() as errors:
            async with trio.open_nursery() as nursery:
                await account.open()
                await nursery.start(account.serve)
                await _first_listing(account, settings.listing_patience_s)
                await _serve_tree(config, account, client, cache, errors, ready)
                nursery.cancel_scope.cancel()
    finally:
        client.close()
        # A first mount that failed leaves nothing behind.
        failed_at_first = is_first_mount and account.snapshot is None
        _close_cache(partial(cache.remove, config.cache_dir) if failed_at_first else cache.close)


def _open_cache(config: MountConfig) -> CacheDirectory:
    cache = CacheDirectory.open(
        config.cache_dir,
        owner=str(config.mountpoint),
        max_bytes=config.cache_size_bytes,
        min_free_bytes=config.min_free_bytes,
    )
    for problem in cache.problems:
        logger.warning("%s", problem)
    return cache


def _close_cache(close: Callable[[], None]) -> None:
    try:
        close()
    except StoreError as error:
        logger.warning("The cache could not be closed cleanly: %s", error)


async def _first_listing(account: Account, patience_s: float) -> None:
    """Make sure that there is a listing to show: a new one, or the last where the service does not answer."""
    try:
        with trio.move_on_after(math.inf if account.snapshot is None else patience_s) as waiting:
            await account.refresh()
    except (CredentialsRefused, TlsFailure, Refused):
        raise
    except ServiceError as error:
        if account.snapshot is None:
            raise
        logger.warning("%s The last known listing is shown until the service answers.", sentence(error))
    if waiting.cancelled_caught:
        logger.warning("The last known listing is shown until the service answers.")


async def _serve_tree(
    config: MountConfig,
    account: Account,
    client: ServiceClient,
    cache: CacheDirectory,
    errors: LastErrors,
    ready: Callable[[], None],
) -> None:
    session = Session(_mount_options(config))
    async with trio.open_nursery() as nursery:
        around = _surroundings(client, account, nursery)
        library = Library(cache, around)
        controls = ControlFiles(account, time.time_ns, nursery.start_soon)
        publisher = await _publisher(config, account, around.disk_threads, nursery)
        drafts = Drafts(account, cache.spool, around.disk_threads, nursery.start_soon, publisher=publisher)
        status = Status(
            facts=_facts(config),
            account=account,
            library=library,
            cache=cache,
            tally=client.tally,
            traffic=around.traffic,
            errors=errors,
            disk_threads=around.disk_threads,
            publisher=publisher,
        )
        requests = Requests(interpose.load())
        tree = Tree(
            account,
            Files(account, library, drafts, controls),
            drafts,
            controls,
            Ownership(config.uid, config.gid, config.umask, config.read_only, mounted_ns=time.time_ns()),
            Steward(account, cache, around.disk_threads, status),
            wall_ns=time.time_ns,
            numbers_apart=requests.has_addition,
            indexers=frozenset() if config.allow_indexers else INDEXERS,
        )
        operations = Operations(tree, requests, free_bytes=0 if config.read_only else FREE_BYTES)
        session.mount(operations)
        try:
            nursery.start_soon(library.serve)
            nursery.start_soon(memory.give_back)
            await session.serve(operations, ready)
        finally:
            session.unmount()
            with trio.move_on_after(SHUT_S, shield=True):
                await library.shut()
            nursery.cancel_scope.cancel()


def _mount_options(config: MountConfig) -> MountOptions:
    return MountOptions(
        config.mountpoint,
        source=f"imagefs:{config.credentials.api_id}",
        read_only=config.read_only,
        allow_other=config.allow_other,
    )


async def _publisher(
    config: MountConfig, account: Account, disk_threads: trio.CapacityLimiter, nursery: trio.Nursery
) -> Publisher | None:
    """What uploads, serving already; None where nothing is to be published. Raises SetupError."""
    if config.publish is None:
        return None
    from imagefs.publish import Publisher  # noqa: PLC0415  # takes its time to load, and few mounts publish

    publisher = Publisher(account, config.publish, disk_threads, nursery.start_soon)
    await nursery.start(publisher.serve)
    return publisher


def _facts(config: MountConfig) -> MountFacts:
    return MountFacts(
        mountpoint=str(config.mountpoint),
        account=config.credentials.api_id,
        api_url=config.api_url,
        cache_dir=str(config.cache_dir),
        read_only=config.read_only,
        no_delete=config.no_delete,
        began_s=time.time(),
    )


def _surroundings(client: ServiceClient, account: Account, nursery: trio.Nursery) -> Surroundings:
    token = trio.lowlevel.current_trio_token()

    def post(function: Callable[..., None], *args: object) -> None:
        try:
            token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            logger.debug("A transfer ended after its mount.")

    return Surroundings(
        retriever=client,
        link=Link(),
        spawn=nursery.start_soon,
        post=post,
        clock=trio.current_time,
        transfer_threads=trio.CapacityLimiter(TRANSFER_THREADS),
        disk_threads=trio.CapacityLimiter(DISK_THREADS),
        hash_threads=trio.CapacityLimiter(HASH_THREADS),
        note_error=account.note_error,
        doubt=account.doubt_details,
    )


def run(config: MountConfig, ready: Callable[[], None]) -> None:
    """:func:`serve` in a loop of its own, with grouped errors reduced to the one that matters."""
    memory.prepare()
    addition = interpose.load()
    if addition is not None and not addition.keep_reserve():
        raise SetupError("There is not enough memory for a mount (see: ulimit -v).")
    try:
        trio.run(serve, config, ready)
    except BaseExceptionGroup as group:
        raise _first_of(group) from group


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
