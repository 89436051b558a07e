"""``imagefs doctor``: what a mount needs, checked piece by piece, each with what to do about it.

============  ====================================================
``machine``   checks of FUSE and of the mounts on this machine
``cache``     checks of the place where images are cached
``service``   checks of the account and the service
``findings``  what a check found
============  ====================================================
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

import click

from imagefs.cli import settings
from imagefs.cli.doctor.cache import check_cache
from imagefs.cli.doctor.findings import Finding
from imagefs.cli.doctor.machine import check_machine
from imagefs.cli.doctor.service import check_service
from imagefs.cli.mount import MIN_FREE_BYTES
from imagefs.cli.settings import Settings
from imagefs.cli.sizes import count_of
from imagefs.core.text import printable
from imagefs.errors import SetupError

_COLOURS: Final = {"ok": "green", "warning": "yellow", "failure": "red"}


@click.command("doctor")
@settings.account_options
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def doctor_command(as_json: bool, **given: object) -> int:
    """Look at all that a mount needs: FUSE, mounts, cache, account, service; and say what to do.

    Changes nothing. Reads one byte of one image of each region. The status is 1 where something keeps mounts from
    working, and 0 where there is at most something that could be better.

    \b
    Example:
      imagefs doctor
    """
    chosen = settings.settle(given)
    found = []
    for finding in _findings(chosen):
        found.append(finding)
        if not as_json:
            _show(finding)
    counts = Counter(finding.grade for finding in found)
    if as_json:
        click.echo(
            json.dumps({"findings": [asdict(finding) for finding in found], "counts": counts}, indent=2)
        )
    else:
        click.echo(
            f"{counts['ok']} ok, {count_of(counts['warning'], 'warning')}, {count_of(counts['failure'], 'failure')}"
        )
    return 1 if counts["failure"] else 0


def _findings(chosen: Settings) -> Iterator[Finding]:
    yield from check_machine()
    try:
        api_id = chosen.credentials().api_id
    except SetupError:
        api_id = (
            ""  # the check of the service says why; the folder that all caches share is there to be tried
        )
    folder = chosen.cache_dir(api_id)
    yield from check_cache(folder if api_id else folder.parent, MIN_FREE_BYTES)
    yield from check_service(chosen)


def _show(finding: Finding) -> None:
    grade = click.style(f"{finding.grade:<8}", fg=_COLOURS[finding.grade])
    click.echo(f"{grade} {printable(finding.what)}: {printable(finding.message)}")
    if finding.remedy:
        click.echo(f"{'':<8} -> {printable(finding.remedy)}")
