"""``imagefs mount``."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import platformdirs

from imagefs.cli import background, credentials, logs, mount_options
from imagefs.cli.sizes import Size
from imagefs.core.models import DEFAULT_API_URL
from imagefs.errors import ImagefsError, SetupError
from imagefs.fuse.mountpoint import prepare_mountpoint

if TYPE_CHECKING:
    from imagefs.app import MountConfig

logger = logging.getLogger(__name__)

DEFAULT_CACHE_BYTES: Final = 20 << 30
MIN_FREE_BYTES: Final = 512 << 20
"""So much of the cache's disk is left to others."""


class _Octal(click.ParamType[int]):
    name = "MASK"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = value if isinstance(value, int) else int(str(value), 8)
        except ValueError:
            number = -1
        if not 0 <= number <= 0o777:  # all permission bits
            self.fail(f"{value!r} is not a mask; write it in octal, like 022.", param, ctx)
        return number


@click.command("mount")
@click.argument("mountpoint", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--api-url", envvar="IMAGEFS_API_URL", default=DEFAULT_API_URL, show_default=True, help="The service."
)
@click.option(
    "--credentials",
    "credentials_file",
    type=click.Path(path_type=Path),
    help="A TOML file with api_id and api_key that only you can read. Else the environment (LUNANODE_API_ID, "
    "LUNANODE_API_KEY), else ~/.config/imagefs/credentials.toml.",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="Where images are cached. Default: below ~/.cache/imagefs.",
)
@click.option(
    "--cache-size",
    "cache_size_bytes",
    type=Size(16 << 20, 1 << 50),
    default=DEFAULT_CACHE_BYTES,
    show_default="20G",
    help="How much is cached at most.",
)
@click.option("--read-only", is_flag=True, help="Refuse every change.")
@click.option("--no-delete", is_flag=True, help="Refuse to delete images, and to move them between regions.")
@click.option("--allow-other", is_flag=True, help="Let other users of this machine read the images.")
@click.option("--uid", type=click.IntRange(0, 2**32 - 2), help="Whose the files are. Default: yours.")
@click.option("--gid", type=click.IntRange(0, 2**32 - 2), help="Their group. Default: yours.")
@click.option("--umask", type=_Octal(), help="Permission bits to take away, in octal.")
@click.option(
    "-o",
    "fstab_options",
    multiple=True,
    metavar="OPT,...",
    help="Options as in fstab: ro, allow_other, uid=, gid=, umask=.",
)
@click.option(
    "--log-file",
    type=click.Path(path_type=Path),
    help="Default in the background: below ~/.local/state/imagefs.",
)
@click.option("--log-level", type=click.Choice(logs.LEVELS), default="info", show_default=True)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground, and log to standard error.")
def mount_command(
    mountpoint: Path,
    api_url: str,
    credentials_file: Path | None,
    cache_dir: Path | None,
    cache_size_bytes: int,
    read_only: bool,
    no_delete: bool,
    allow_other: bool,
    uid: int | None,
    gid: int | None,
    umask: int | None,
    fstab_options: tuple[str, ...],
    log_file: Path | None,
    log_level: str,
    foreground: bool,
) -> None:  # fmt: skip
    """Mount the account on the empty directory MOUNTPOINT.

    Returns once the tree can be used, and goes on in the background until `imagefs umount MOUNTPOINT`.

    \b
    Example:
      imagefs mount ~/images
    """
    fstab = mount_options.parse(fstab_options)
    account = credentials.load(credentials_file, os.environ)
    _require_fuse()
    from imagefs import app  # noqa: PLC0415  # loads libfuse, which --help and a missing fuse3 must not need

    config = app.MountConfig(
        mountpoint=mountpoint,
        credentials=account,
        api_url=api_url,
        cache_dir=cache_dir or _default_cache_dir(app.account_name(api_url, account.api_id)),
        cache_size_bytes=cache_size_bytes,
        min_free_bytes=MIN_FREE_BYTES,
        uid=_first(uid, fstab.uid, os.getuid()),
        gid=_first(gid, fstab.gid, os.getgid()),
        umask=_first(umask, fstab.umask, 0),
        read_only=read_only or fstab.read_only,
        no_delete=no_delete,
        allow_other=allow_other or fstab.allow_other,
    )
    _require_user_allow_other(config.allow_other)
    prepare_mountpoint(mountpoint)

    if foreground:
        if log_file is None:
            logs.to_stderr(log_level)
        else:
            logs.to_file(log_file, log_level)
        app.run(config, lambda: logger.info("Mounted on %s.", mountpoint))
    else:
        logs.to_file(log_file or logs.default_file(), log_level)
        background.run_in_background(lambda ready: _run_logged(config, ready))


def _run_logged(config: MountConfig, ready: Callable[[], None]) -> None:
    """The mount's process in the background: what ends it is for the log, too."""
    from imagefs import app  # noqa: PLC0415  # loaded by the command already

    try:
        app.run(config, ready)
    except ImagefsError as error:
        logger.error("%s", error)  # noqa: TRY400  # the message is for people; a traceback is for bugs
        raise
    except Exception:
        logger.exception("The mount ended on a bug.")
        raise


def _default_cache_dir(account_name: str) -> Path:
    return platformdirs.user_cache_path("imagefs") / account_name


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _require_fuse() -> None:
    """Raise SetupError where this machine has no usable FUSE."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise SetupError(
            "/dev/fuse is missing or not yours to use. Install fuse3, or in a container, pass the device in."
        )
    if shutil.which("fusermount3") is None:
        raise SetupError("fuse3 is not installed. On Debian or Ubuntu: sudo apt-get install fuse3")
    try:
        import pyfuse3  # noqa: F401, PLC0415  # only to see whether libfuse can be loaded
    except ImportError as error:
        raise SetupError(
            f"libfuse 3 cannot be loaded ({error}). On Debian or Ubuntu: sudo apt-get install fuse3"
        ) from error


def _require_user_allow_other(allow_other: bool) -> None:
    if not allow_other or os.geteuid() == 0:
        return
    try:
        lines = Path("/etc/fuse.conf").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if "user_allow_other" not in (line.strip() for line in lines):
        raise SetupError(
            "--allow-other needs a line user_allow_other in /etc/fuse.conf, which only root can add."
        )
