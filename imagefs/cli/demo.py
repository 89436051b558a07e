"""``imagefs demo``: an account of its own on this machine, mounted and shown.

The emulator runs on threads of this process, the mount in a process of its own, started by the same command
that people use. Whatever ends the demo, both end and nothing is left behind.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, CalledProcessError, Popen, TimeoutExpired
from typing import Final

import click

from imagefs.cli.asking import is_dead
from imagefs.cli.demo_source import serving
from imagefs.cli.demo_tour import run_tour, tour
from imagefs.cli.stop_request import StopRequest
from imagefs.emulator.service import Emulator, EmulatorError
from imagefs.emulator.switches import Switches
from imagefs.errors import SetupError
from imagefs.fuse.mountpoint import prepare_mountpoint, unmount
from imagefs.fuse.mounts import FILESYSTEM_TYPE, mount_at

MOUNT_LIMIT_S: Final = 60.0
UNMOUNT_LIMIT_S: Final = 20.0
"""More than a mount takes to bring its cache to rest."""

SAVING_S: Final = 1.5
"""How long the service takes for a replica: long enough to be seen pending, short enough to be waited for."""

UPLOAD_PORTS: Final = range(18_000, 28_000)
"""Where a free one is looked for: below those that the kernel gives to whoever names none (ip(7), local ports)."""

FETCHED: Final = "tools.iso"
"""An image that is not in the account, for the service to download."""


@click.command("demo")
@click.argument("mountpoint", type=click.Path(path_type=Path), required=False)
@click.option("--once", is_flag=True, help="End after the tour, as without a terminal.")
@click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path),
    help="Where to keep the account for the next time. Default: a temporary directory.",
)
@click.pass_context
def demo_command(context: click.Context, mountpoint: Path | None, once: bool, data_dir: Path | None) -> int:
    """Mount an account of real images that lives on this machine only, and take a short tour.

    Leaves it mounted on MOUNTPOINT (by default a new temporary directory) until Ctrl-C.
    """
    if os.environ.get("NO_COLOR"):
        context.color = False
    stays = not once and sys.stdin.isatty() and sys.stdout.isatty()
    with ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        # Apart from the scratch directory: a tree that is removed with all below it must not hold a mount.
        mountpoint = mountpoint or stack.enter_context(_fresh_directory())
        prepare_mountpoint(mountpoint, is_dead)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagefs-demo-")))
        emulator = stack.enter_context(_emulator(data_dir or scratch / "account"))
        source = scratch / "source"
        source.mkdir()
        _make_images(emulator, source / FETCHED, stop)
        source_url = stack.enter_context(serving(source))
        mount = stack.enter_context(_mounted(mountpoint, emulator, scratch, stop))
        click.echo(f"The service: {emulator.api_url} (an emulator, here for as long as the demo)")
        click.echo(f"Mounted on:  {mountpoint}")
        went_well = run_tour(tour(f"{source_url}/{FETCHED}"), mountpoint, emulator.ledger, stop)
        if stop.requested:
            raise click.Abort
        if stays:
            _stay(mountpoint, scratch / "mount.log", mount, stop)
    click.echo(f"Unmounted; the account stays in {data_dir}." if data_dir else "Unmounted and cleaned up.")
    return 0 if went_well else 1


@contextmanager
def _emulator(data_dir: Path) -> Iterator[Emulator]:
    try:
        emulator = Emulator(data_dir, switches=Switches(saving_s=SAVING_S))
        emulator.start()
    except EmulatorError as error:
        raise SetupError(str(error)) from error
    try:
        yield emulator
    finally:
        emulator.close()


def _make_images(emulator: Emulator, fetched: Path, stop: StopRequest) -> None:
    try:
        from imagefs.emulator import demo_account  # noqa: PLC0415  # needs pycdlib, which is an extra
    except ImportError as error:
        raise SetupError("The demo needs pycdlib: pip install 'imagefs[emulator]'") from error
    click.echo(f"Preparing disk images (about 320 MB) in {emulator.data_dir} ... ", nl=False)
    started_s = time.monotonic()
    try:
        demo_account.build(emulator)
        demo_account.write_fetchable(fetched)
    except (OSError, CalledProcessError) as error:
        click.echo()
        if stop.requested:  # Ctrl-C ends the programs that make the images, too
            raise click.Abort from error
        raise SetupError(f"The images cannot be made: {error}.") from error
    click.echo(f"done ({time.monotonic() - started_s:.1f} s).")


@contextmanager
def _fresh_directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="imagefs-"))
    try:
        yield path
    finally:
        path.rmdir()


@contextmanager
def _mounted(
    mountpoint: Path, emulator: Emulator, scratch: Path, stop: StopRequest
) -> Iterator[Popen[bytes]]:
    """The account mounted on *mountpoint*, by a process whose cache and log are in *scratch*."""
    complaint = scratch / "mount.err"
    published = f"127.0.0.1:{_free_port()}"
    command: list[str | Path] = [
        *(sys.executable, "-P", "-m", "imagefs", "mount", "--foreground"),
        *("--api-url", emulator.api_url, "--credentials", emulator.credentials_file),
        *("--cache-dir", scratch / "cache", "--log-file", scratch / "mount.log"),
        *("--publish", f"http://{published}", "--publish-listen", published),
        *("--", mountpoint),
    ]
    # What the person has set up is for other mounts than this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEFS_")}
    environment["XDG_CONFIG_HOME"] = str(scratch)
    with complaint.open("wb") as stderr:
        # In a session of its own: Ctrl-C is for the demo, which then ends the mount.
        mount = Popen(  # noqa: S603  # no shell
            command, stdin=DEVNULL, stdout=stderr, stderr=stderr, start_new_session=True, env=environment
        )
    try:
        _await_mount(mountpoint, mount, complaint, stop)
        yield mount
    finally:
        _end(mount, mountpoint)


def _free_port() -> int:
    """A port of this machine that nobody listens at."""
    for port in random.sample(UPLOAD_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise SetupError("The demo finds no free port on this machine.")


def _await_mount(mountpoint: Path, mount: Popen[bytes], complaint: Path, stop: StopRequest) -> None:
    deadline_s = time.monotonic() + MOUNT_LIMIT_S
    while not _is_mounted(mountpoint):
        if stop.wait_for(mount, 0.02):
            lines = complaint.read_text(encoding="utf-8", errors="replace").splitlines() or ["no word"]
            raise SetupError(f"The demo cannot mount: {lines[-1].removeprefix('imagefs: ')}")
        if stop.requested:
            raise click.Abort
        if time.monotonic() > deadline_s:
            raise SetupError(f"The demo cannot mount: nothing came up within {MOUNT_LIMIT_S:.0f} s.")


def _end(mount: Popen[bytes], mountpoint: Path) -> None:
    mount.terminate()
    try:
        mount.wait(UNMOUNT_LIMIT_S)
    except TimeoutExpired:
        mount.kill()
        mount.wait()
    if _is_mounted(mountpoint):
        unmount(mountpoint, lazy=True)


def _is_mounted(mountpoint: Path) -> bool:
    found = mount_at(mountpoint)
    return found is not None and found.filesystem_type == FILESYSTEM_TYPE


def _stay(mountpoint: Path, log: Path, mount: Popen[bytes], stop: StopRequest) -> None:
    """Leave it mounted until Ctrl-C, or until it is unmounted from elsewhere. Raises SetupError where it failed."""
    click.echo(f"\nIt stays mounted on {mountpoint} for you to look around in another terminal.")
    click.echo(f"The mount's log: {log}")
    click.secho("Ctrl-C ends the demo.", bold=True)
    if stop.wait_for(mount):
        if mount.returncode != 0:
            raise SetupError(f"The mount ended with status {mount.returncode}.")
        click.echo("Unmounted from elsewhere.")
    else:
        click.echo("\nUnmounting ...")
