"""``imagefs emulator``: the stand-in as a program of its own.

Registered by the command line; runs on the main thread until a signal ends it.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from imagefs.emulator.service import Emulator, EmulatorError
from imagefs.emulator.switches import FRAMINGS, REFUSE_FORMS, Switches

_DEFAULTS = Switches()
_ENDING = (signal.SIGINT, signal.SIGTERM)


@click.command("emulator")
@click.option(
    "--data", "data_dir", type=click.Path(path_type=Path), required=True, help="Where the account is kept."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="The port on 127.0.0.1; 0 takes a free one."
)
@click.option("--api-id", help="The API ID (16 characters), instead of the one kept or a new one.")
@click.option(
    "--api-key-file", type=click.Path(path_type=Path), help="A file with the API key (128 characters)."
)
@click.option(
    "--tls", nargs=2, type=click.Path(path_type=Path), metavar="CERT KEY", help="Serve https (PEM files)."
)
@click.option("--demo", is_flag=True, help="Fill the account with real images, once.")
@click.option("--range/--no-range", default=_DEFAULTS.range, help="Whether image/retrieve honours Range.")
@click.option("--framing", type=click.Choice(FRAMINGS), default=_DEFAULTS.framing, help="How contents end.")
@click.option("--chunked", "framing", flag_value="chunked", help="The same as --framing chunked.")
@click.option(
    "--latency", "latency_s", type=click.FloatRange(0), default=0.0, help="Seconds before each answer."
)
@click.option(
    "--rate", "rate_bytes_per_s", type=click.FloatRange(1), help="Bytes a second on each connection."
)
@click.option(
    "--saving", "saving_s", type=click.FloatRange(0), default=5.0, help="Seconds until a new image is active."
)
@click.option(
    "--pending-changes/--no-pending-changes", default=True, help="Whether pending images can be changed."
)
@click.option("--list-success", is_flag=True, help='Let image/list have "success".')
@click.option(
    "--rate-limit", "rate_limit_per_s", type=click.FloatRange(0.001), help="Calls a second; more get 429."
)
@click.option("--retry-after", help="The Retry-After header of these.")
@click.option(
    "--clock-offset", "clock_offset_s", type=float, default=0.0, help="Seconds the service's clock is ahead."
)
@click.option(
    "--nonce-window",
    "nonce_window_s",
    type=click.FloatRange(0),
    default=300.0,
    help="Seconds a nonce is valid.",
)
@click.option("--unique-nonce", is_flag=True, help="Accept each nonce once.")
@click.option("--refuse-form", type=click.Choice(REFUSE_FORMS), default="json", help="How refusals look.")
@click.option("--max-connections", type=click.IntRange(1), help="More connections get 503.")
def emulator_command(
    data_dir: Path,
    port: int,
    api_id: str | None,
    api_key_file: Path | None,
    tls: tuple[Path, Path] | None,
    demo: bool,
    **switches: Any,
) -> None:
    """Serve a stand-in for the service on this machine, until interrupted."""
    # Blocked, before there is any thread, and waited for: a handler could run while what it calls is locked.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        key = _api_key(api_key_file)
        with Emulator(
            data_dir, port=port, api_id=api_id, api_key=key, switches=Switches(**switches), tls=tls
        ) as emulator:
            if demo:
                _build_demo(emulator)
            click.echo(f"API: {emulator.api_url}")
            click.echo(f"Credentials: {emulator.credentials_file}")
            signal.sigwait(_ENDING)
    except EmulatorError as error:
        raise click.ClickException(str(error)) from error


def _api_key(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise EmulatorError(f"The API key cannot be read from {path}: {error}.") from error


def _build_demo(emulator: Emulator) -> None:
    try:
        from imagefs.emulator import demo_account  # noqa: PLC0415 - needs pycdlib, which is an extra
    except ImportError as error:
        raise EmulatorError(
            "--demo needs pycdlib; install it with: pip install 'imagefs[emulator]'"
        ) from error
    demo_account.build(emulator)
