"""``imagefs status``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from imagefs.cli import asking
from imagefs.cli.paths import Untouched
from imagefs.cli.showing import console, percent, plain, show, size, span
from imagefs.cli.sizes import count_of
from imagefs.errors import SetupError
from imagefs.fuse.mounts import own_mounts

SECOND_LOOK_S: Final = 0.5
"""The time between the two looks from which the rate of a transfer is computed."""

MOVING: Final = {"transfers": "cached", "uploads": "sent"}
"""The lists of what is being transferred, and the key in their rows of the bytes that have arrived."""

Status = dict[str, Any]


@click.command("status")
@click.argument("mountpoint", type=Untouched(), required=False)
@click.option("--json", "as_json", is_flag=True, help="For scripts; with --watch, a line for each look.")
@click.option("--watch", is_flag=True, help="Go on showing it until Ctrl-C.")
@click.option(
    "--interval", "interval_s", type=click.FloatRange(0.2, 3600), default=1.0, show_default=True, metavar="SECONDS",
    help="How often --watch looks.",
)  # fmt: skip
def status_command(mountpoint: Path | None, as_json: bool, watch: bool, interval_s: float) -> int:
    """Show how mounts are doing: the service, the cache, transfers, uploads, pending work, the last errors.

    All mounts of imagefs on this machine, or the one that MOUNTPOINT, or a file below it, is on. The running mount
    itself answers, also while the service does not. The status is 1 where one of them does not answer.

    \b
    Example:
      imagefs status
      imagefs status ~/images --json | jq .[0].cache
      imagefs status --watch
    """
    looks = _looks(mountpoint, interval_s if watch else None)
    if as_json:
        found: list[Status] = []
        for found in looks:
            click.echo(json.dumps(found) if watch else json.dumps(found, indent=2))
        return _exit_status(found)
    out = console()
    if not watch or not out.is_terminal:
        for found in looks:
            show(_page(found))
        return _exit_status(found)
    with Live(console=out, auto_refresh=False, screen=True) as live:
        for found in looks:
            live.update(_page(found), refresh=True)
    return 0


def _looks(mountpoint: Path | None, interval_s: float | None) -> Iterator[list[Status]]:
    """One look, or one after another; each with the rates since the one before. Raises SetupError."""
    before = _look(mountpoint)
    if interval_s is None:
        if any(status.get(kind) for status in before for kind in MOVING):
            time.sleep(SECOND_LOOK_S)
            before = _with_rates(before, _look(mountpoint))
        yield before
        return
    while True:
        yield before
        time.sleep(interval_s)
        before = _with_rates(before, _look(mountpoint))


def _look(mountpoint: Path | None) -> list[Status]:
    if mountpoint is not None:
        points = [asking.mountpoint_of(mountpoint)]
    else:
        points = [Path(os.fsdecode(mount.mountpoint)) for mount in own_mounts()]
    return [_status(point) for point in dict.fromkeys(points)]


def _status(point: Path) -> Status:
    try:
        return {**asking.status_of(point), "mountpoint": str(point), "answers": True}
    except SetupError as error:
        problem = str(error).removeprefix(f"{point}: ")
        return {"mountpoint": str(point), "answers": False, "problem": problem}


def _with_rates(before: list[Status], after: list[Status]) -> list[Status]:
    """*after*, with what each transfer and upload moved a second since *before*."""
    earlier = {status["mountpoint"]: status for status in before}
    for status in after:
        if not status["answers"]:
            continue
        last = earlier.get(status["mountpoint"], {})
        passed_s = status["now"] - last.get("now", 0.0)
        for kind, done in MOVING.items():
            had = {row["image_id"]: row[done] for row in last.get(kind, [])}
            for row in status.get(kind, []):
                if row["image_id"] in had and passed_s > 0:
                    row["rate"] = max(0.0, (row[done] - had[row["image_id"]]) / passed_s)
                    left = row["size"] - row[done]
                    row["left_s"] = left / row["rate"] if row["rate"] else None
    return after


def _exit_status(found: list[Status]) -> int:
    return 0 if all(status["answers"] for status in found) else 1


def _page(found: list[Status]) -> RenderableType:
    if not found:
        return Text("Nothing is mounted.")
    return Group(*(part for status in found for part in (*_mount(status), Text(""))))


def _mount(status: Status) -> Iterator[RenderableType]:
    if not status["answers"]:
        yield plain(status["mountpoint"], "bold")
        yield plain(f"  {status['problem']}", "red")
        return
    flags = "".join(f", {flag.replace('_', ' ')}" for flag in ("read_only", "no_delete") if status[flag])
    head = plain(status["mountpoint"], "bold")
    head.append_text(plain(f"  {status['account']}, for {span(status['now'] - status['mounted'])}{flags}"))
    yield head
    lines = Table.grid(padding=(0, 2))
    lines.add_row("  service", _service(status))
    lines.add_row("  cache", _cache(status))
    yield lines
    yield from _section("transfers", map(_transfer, status["transfers"]), status["more"]["transfers"])
    yield from _section("uploads", map(_upload, status.get("uploads", [])), 0)
    yield from _section(
        "pending", (_pending(row, status["now"]) for row in status["pending"]), status["more"]["pending"]
    )
    yield from _section("last errors", map(_error, status["errors"]), 0)


def _service(status: Status) -> Text:
    service = status["service"]
    if service["reachable"] is None:
        state = Text("not asked yet")
    else:
        words = ("reachable", "green") if service["reachable"] else ("not reachable", "red")
        state = Text(words[0], words[1])
        state.append(f" for {span(status['now'] - service['since'])}", "default")
    state.append_text(plain(f", {status['api_url']}, {count_of(service['requests'], 'request')}", "default"))
    if service["unanswered"]:
        state.append(f", {service['unanswered']} unanswered", "default")
    return state


def _cache(status: Status) -> Text:
    cache = status["cache"]
    if "cached" not in cache:
        return plain(f"{cache['dir']} does not answer, or cannot be used", "red")
    text = f"{size(cache['cached'])} of {size(cache['limit'])}, {count_of(cache['contents'], 'content')}"
    text += f", {size(cache['free'])} free"
    if status["hit_rate"] is not None:
        text += f"; {size(status['read'])} read, {100 * status['hit_rate']:.0f} % from the cache"
    return plain(f"{text}; {cache['dir']}")


def _section(title: str, rows: Iterator[tuple[RenderableType, ...]], more: int) -> Iterator[RenderableType]:
    listed = list(rows)
    if not listed:
        return
    yield Text(f"  {title}", "bold")
    grid = Table.grid(padding=(0, 2))
    for row in listed:
        grid.add_row(Text("   "), *row)
    yield grid
    if more:
        yield Text(f"     and {more} more")


def _transfer(row: Status) -> tuple[RenderableType, ...]:
    left = row.get("left_s")
    return (*_progress(row, row["cached"]), Text("" if left is None else f"{span(left)} left"))


def _upload(row: Status) -> tuple[RenderableType, ...]:
    left = row.get("left_s")
    if not row["requests"]:
        state = "not asked for yet"
    elif row["sent"] >= row["size"]:
        state = "the service has all of it"
    else:
        state = "" if left is None else f"{span(left)} left"
    return (*_progress(row, row["sent"]), Text(state))


def _progress(row: Status, done_bytes: int) -> tuple[RenderableType, ...]:
    rate = row.get("rate")
    return (
        plain(f"{row['region']}/{row['name']}" if row["name"] else f"image {row['image_id']}"),
        ProgressBar(total=max(1, row["size"]), completed=done_bytes, width=24),
        Text(percent(done_bytes, row["size"])),
        Text(f"{size(done_bytes)} of {size(row['size'])}"),
        Text("" if rate is None else f"{size(rate)}/s"),
    )


def _pending(row: Status, now_s: float) -> tuple[RenderableType, ...]:
    name = f"{row['region']}/{row['name']}" if row["name"] else ""
    return (
        Text(row["kind"], "yellow"),
        plain(name),
        plain(f"image {row['image_id']}" if row["image_id"] else "not confirmed yet"),
        plain(f"of {row['source_id']}" if row["source_id"] else ""),
        Text("" if row["since"] is None else f"for {span(now_s - row['since'])}"),
    )


def _error(row: Status) -> tuple[RenderableType, ...]:
    style = "red" if row["level"] == "error" else "yellow"
    return Text(time.strftime("%H:%M:%S", time.localtime(row["at"]))), plain(row["text"], style)
