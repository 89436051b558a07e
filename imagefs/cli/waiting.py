"""Waiting for images, with something to see meanwhile. Ctrl-C ends the waiting and nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from imagefs.cli import INTERRUPTED
from imagefs.cli.asking import STATUS_S, Found, NoAnswer, ask, following, reason_of
from imagefs.cli.service import PATIENCE_S
from imagefs.cli.showing import plain, progress
from imagefs.core.models import Phase
from imagefs.core.names import encode
from imagefs.errors import ImageFailed, Overloaded, Unreachable

if TYPE_CHECKING:
    from imagefs.api import ServiceClient

FIRST_PAUSE_S: Final = 2.0
LONGEST_PAUSE_S: Final = 10.0
"""Between looks at an image that the service is making."""


class Left(click.ClickException):
    """Ctrl-C ended a command, and not what it has begun."""

    exit_code = INTERRUPTED


@contextmanager
def going_on(words: str) -> Iterator[None]:
    """Say at Ctrl-C that the work goes on without the command. Raises Left."""
    try:
        yield
    except KeyboardInterrupt:
        raise Left(f"interrupted. {words}") from None


def wait_through_mount(paths: Sequence[Path]) -> int:
    """Wait until the images at *paths* are active, as sync(1) does; the status of the command."""
    with going_on("The service goes on with it."), progress(measured=False) as bars:
        tasks = [bars.add_task(str(plain(str(path))), note="waiting", total=1) for path in paths]

        def ended(index: int, problem: str | None) -> None:
            bars.update(tasks[index], note=problem or "active", completed=1)

        return follow(("sync",), paths, lambda _index, _found: None, ended)


def submit_and_wait(line: str, control_file: Path, name: str, accepted: Callable[[], None]) -> int:
    """Write *line* to a control file, and wait until the image of that *name* is active; the status of the command."""
    image = control_file.with_name(encode(name))
    bars = progress(measured=False)
    task = bars.add_task(str(plain(str(image))), note="waiting", total=1)

    def went_on(_index: int, found: Found) -> None:
        if "accepted" in found:
            accepted()
            bars.start()

    def ended(_index: int, problem: str | None) -> None:
        bars.update(task, note=problem or "active", completed=1)

    with going_on("The service goes on with it."):
        try:
            return follow(("submit", line), [control_file], went_on, ended, told_by=image)
        finally:
            bars.stop()


def follow(
    action: tuple[str, ...],
    paths: Sequence[Path],
    went_on: Callable[[int, Found], None],
    ended: Callable[[int, str | None], None],
    told_by: Path | None = None,
) -> int:
    """Have the probe do *action* with all *paths*; 0 where all went well, else 1.

    *went_on* is called with what the probe reports on the way, *ended* with how it ended for each path: a problem in
    words, or None. The path itself, or *told_by*, is asked for the reason of a problem.
    """
    left = set(range(len(paths)))
    failed = False
    with following(*action, *paths) as probe:
        assert probe.stdout is not None, "it is a pipe"
        for line in probe.stdout:
            found = json.loads(line)
            index = found["path"]
            if "errno" in found:
                failed = True
                place = told_by or paths[index]
                problem = _problem_of(place, found["errno"])
                click.echo(f"imagefs: {plain(str(place))}: {problem}.", err=True)
                ended(index, problem)
            elif "done" in found:
                went_on(index, found)
                ended(index, None)
            else:
                went_on(index, found)
                continue
            left.discard(index)
    for index in left:  # it was killed
        click.echo(f"imagefs: {plain(str(paths[index]))}: it is not known how that ended.", err=True)
    return 1 if failed or left else 0


def _problem_of(path: Path, number: int) -> str:
    """What the image itself says of its failure, else what the errno means."""
    try:
        rows = ask("get", "user.imagefs.error", path, within_s=STATUS_S)
    except NoAnswer:
        rows = []
    told = str(rows[0]["value"]).rstrip(".") if rows and "value" in rows[0] else ""
    return told or reason_of(number)


def wait_by_service(client: ServiceClient, image_id: str, name: str) -> None:
    """Wait until the service has made the image. Raises ImageFailed, and ServiceError where it is gone."""
    words = f"The service goes on with image {image_id}; see: imagefs ls"
    with going_on(words), progress(measured=False) as bars:
        task = bars.add_task(str(plain(name)), note="waiting", total=1)
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                details = client.image_details(image_id, deadline_s=PATIENCE_S)
            except (Unreachable, Overloaded):
                bars.update(task, note="the service does not answer")
            else:
                bars.update(task, note=details.status)
                if details.phase is Phase.ACTIVE:
                    return
                if details.phase is Phase.FAILED:
                    raise ImageFailed(f"Image {image_id} has failed ({details.status}).")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
