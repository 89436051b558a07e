"""``imagefs mount``."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from imagefs.cli import background, logs, service_manager, settings
from imagefs.cli.asking import is_dead
from imagefs.cli.paths import Untouched
from imagefs.errors import ImagefsError, SetupError
from imagefs.fuse.mountpoint import may_allow_other, prepare_mountpoint
from imagefs.fuse.mounts import absolute

if TYPE_CHECKING:
    from imagefs.core.models import Credentials
    from imagefs.publish import PublishSettings

logger = logging.getLogger(__name__)

MIN_FREE_BYTES: Final = 512 << 20
"""How much of the cache's disk is left free."""


@click.command("mount")
@click.argument("mountpoint", type=Untouched())
@settings.all_options
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground, and log to standard error.")
def mount_command(mountpoint: Path, foreground: bool, **given: object) -> None:
    """Mount the account on the empty directory MOUNTPOINT.

    Returns once the tree can be used, and goes on in the background until `imagefs umount MOUNTPOINT`. An option
    that is not given comes from the environment (IMAGEFS_CACHE_SIZE and the like), else from the configuration
    file (see: imagefs config show), else is the default.

    \b
    Example:
      imagefs mount ~/images
      imagefs mount --profile work --read-only --cache-size 50G ~/work
    """
    chosen = settings.settle(given)
    account = chosen.credentials()
    _require_fuse()
    _require_user_allow_other(chosen["allow_other"])
    publish = _publish_settings(chosen)
    log_file, log_level = chosen["log_file"], chosen["log_level"]
    if log_file is None and not foreground:
        log_file = logs.default_file()
    _refuse_below(mountpoint, chosen.cache_dir(account.api_id), *([log_file] if log_file else []))
    prepare_mountpoint(mountpoint, is_dead)
    serve = partial(_serve, mountpoint, chosen, account, publish)

    if log_file is None:
        logs.to_stderr(log_level)
    else:
        logs.to_file(log_file, log_level)
    if foreground:
        serve(lambda: _announce(mountpoint))
    else:
        background.run_in_background(lambda ready: _serve_logged(serve, ready))


def _serve(
    mountpoint: Path,
    chosen: settings.Settings,
    account: Credentials,
    publish: PublishSettings | None,
    ready: Callable[[], None],
) -> None:
    """The whole life of a mount, imports included: the process that waits for it to begin loads none of them."""
    _require_libfuse()
    from imagefs import app  # noqa: PLC0415  # loads libfuse, which --help and a missing fuse3 must not need

    config = app.MountConfig(
        mountpoint=absolute(mountpoint),
        credentials=account,
        api_url=chosen["api_url"],
        cache_dir=chosen.cache_dir(account.api_id),
        cache_size_bytes=chosen["cache_size"],
        min_free_bytes=MIN_FREE_BYTES,
        uid=os.getuid() if chosen["uid"] is None else chosen["uid"],
        gid=os.getgid() if chosen["gid"] is None else chosen["gid"],
        umask=chosen["umask"],
        read_only=chosen["read_only"],
        no_delete=chosen["no_delete"],
        allow_other=chosen["allow_other"],
        allow_indexers=chosen["allow_indexers"],
        publish=publish,
    )
    app.run(config, ready)


def _announce(mountpoint: Path) -> None:
    logger.info("Mounted on %s.", mountpoint)
    service_manager.notify("READY=1", os.environ)


def _serve_logged(serve: Callable[[Callable[[], None]], None], ready: Callable[[], None]) -> None:
    """The mount in the background: the error that ends it is logged, too."""
    try:
        serve(ready)
    except ImagefsError as error:
        logger.error("%s", error)  # noqa: TRY400  # the message is for people; a traceback is for bugs
        raise
    except Exception:
        logger.exception("The mount ended on a bug.")
        raise


def _publish_settings(chosen: settings.Settings) -> PublishSettings | None:
    details = [chosen[key] for key in ("publish_listen", "publish_cert", "publish_key")]
    if chosen["publish"] is None:
        if any(details):
            raise SetupError("--publish-listen, --publish-cert and --publish-key go with --publish URL.")
        return None
    from imagefs.publish import PublishSettings  # noqa: PLC0415  # only mounts that publish need it

    publish = PublishSettings.parse(chosen["publish"], *details)
    publish.tls_context()  # a useless certificate is reported before the mount goes into the background
    return publish


def _refuse_below(mountpoint: Path, *own_paths: Path) -> None:
    """Raise SetupError where the mount would hide what it needs itself: it would wait for its own answer there."""
    place = absolute(mountpoint)
    for path in own_paths:
        if absolute(path).is_relative_to(place):
            raise SetupError(f"{path} is below the mount point {mountpoint}: choose another place for it.")


def _require_fuse() -> None:
    """Raise SetupError where this machine has no usable FUSE."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise SetupError(
            "/dev/fuse is missing or not yours to use. Install fuse3, or in a container, pass the device in."
        )
    if shutil.which("fusermount3") is None:
        raise SetupError("fuse3 is not installed. On Debian or Ubuntu: sudo apt-get install fuse3")


def _require_libfuse() -> None:
    """Raise SetupError where libfuse cannot be loaded."""
    try:
        import pyfuse3  # noqa: F401, PLC0415  # only to see whether libfuse can be loaded
    except ImportError as error:
        raise SetupError(
            f"libfuse 3 cannot be loaded ({error}). On Debian or Ubuntu: sudo apt-get install fuse3"
        ) from error


def _require_user_allow_other(allow_other: bool) -> None:
    if allow_other and not may_allow_other():
        raise SetupError(
            "--allow-other needs a line user_allow_other in /etc/fuse.conf, which only root can add."
        )
