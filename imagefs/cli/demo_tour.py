"""The demo's short tour: what is run, how it is shown, and what it cost. On the demo's main thread.

Each command is an ordinary one on the mounted tree. After each comes what the service saw of it, from the
emulator's ledger.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen, TimeoutExpired
from threading import Event, Thread
from typing import Final

import click

from imagefs.cli.stop_request import StopRequest
from imagefs.emulator.ledger import Ledger

STEP_LIMIT_S: Final = 60.0
"""No command of the tour takes more than some seconds; one that hangs is ended, so that the demo never does."""

KILL_LIMIT_S: Final = 5.0
DOT_S: Final = 0.5
SETTLE_S: Final = 2.0
"""How long calls that go on after a command are waited for, so that they count for it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command line for sh(1), run in the mounted tree, and what to look at in its output.

    ``tool`` is the program that it needs, ``status`` the exit status that it should have. ``waits`` is for what takes
    seconds and prints nothing. ``then`` is a call of the service that the mount makes some time after the command.
    """

    about: str
    command: str
    tool: str
    status: int = 0
    waits: bool = False
    then: str | None = None


READING: Final = (
    Step(
        "A directory for each region, a file for each image. Two images of one name\n"
        "carry their ids, a / in a name is %2F, and one still being saved has mode 0000.",
        "ls -l toronto montreal roubaix",
        "ls",
    ),
    Step("The account as a disk: used is what its images take.", "df -h .", "df"),
    Step(
        "What the service knows about an image, and how much of it is cached here.",
        "getfattr -d toronto/rescue.iso",
        "getfattr",
    ),
    Step(
        "A look at the beginning costs the beginning, not the 256 MiB.",
        "head -c 48 roubaix/large.img | od -A d -t x1",
        "od",
    ),
    Step(
        "Replicas have the same bytes: these travel once, and are checked against the MD5.",
        "sha256sum toronto/rescue.iso montreal/rescue.iso",
        "sha256sum",
    ),
    Step("From now on they come from the cache.", "sha256sum toronto/rescue.iso", "sha256sum"),
    Step(
        "Other programs need not know where their files are.",
        "qemu-img info montreal/server.qcow2",
        "qemu-img",
    ),
    Step(
        "The ISO is one that boots, with files in it.",
        "xorriso -report_about WARNING -indev toronto/rescue.iso -report_el_torito plain -lsl /",
        "xorriso",
    ),
    Step("What cannot be had is an error, never a wrong byte.", "cat roubaix/being-saved.qcow2", "cat", 1),
)

CHANGING: Final = (
    Step(
        "A copy to another region is made by the service: none of the 256 MiB travels.\n"
        "It is there at once, with mode 0000 until the service is done.",
        "cp roubaix/large.img toronto/ && ls -l toronto/large.img",
        "cp",
    ),
    Step("Whoever needs to wait for that can.", "sync toronto/large.img", "sync", waits=True),
    Step("Another name within a region is a rename.", "mv toronto/large.img toronto/copy.img", "mv"),
    Step(
        "Another region is a move: the source is hidden at once, and deleted only when\n"
        "its replica is there with the same size and MD5.",
        "mv toronto/copy.img montreal/ && sync montreal/copy.img",
        "mv",
        waits=True,
        then="delete",
    ),
    Step("To remove a file is to delete its image.", "rm montreal/copy.img", "rm"),
)


def _fetching(url: str) -> tuple[Step, ...]:
    return (
        Step(
            "A URL that is written to a region's .fetch is downloaded by the service itself.",
            f"echo {url} > toronto/.fetch",
            "echo",
        ),
        Step("That takes its time, too.", "sync toronto/tools.iso", "sync", waits=True),
        Step("The file tells what became of it.", "tail -n 2 toronto/.fetch", "tail"),
        Step(
            "Content that no image has is uploaded: the service downloads it from the mount.\n"
            "The program is done when the image is active.",
            "qemu-img convert -c -O qcow2 montreal/server.qcow2 toronto/new.qcow2",
            "qemu-img",
            waits=True,
        ),
        Step("Now the account is as it was.", "rm -f toronto/tools.iso toronto/new.qcow2", "rm"),
    )


def tour(url: str) -> tuple[Step, ...]:
    """All steps; *url* is that of an image ``tools.iso`` that the service can download."""
    return (*READING, *CHANGING, *_fetching(url))


@dataclass(frozen=True, slots=True)
class Tally:
    """What the service was asked up to some moment: calls by action, and bytes of content sent."""

    calls: Counter[str]
    content_bytes: int

    @classmethod
    def of(cls, ledger: Ledger) -> Tally:
        """The tally of *ledger* now, or a moment later where calls are in progress."""
        deadline = time.monotonic() + SETTLE_S
        while any(call.outcome == "in progress" for call in ledger.calls) and time.monotonic() < deadline:
            time.sleep(0.01)
        return cls(Counter(call.action for call in ledger.calls), ledger.bytes_retrieved())

    def since(self, earlier: Tally) -> Tally:
        """What came in between."""
        return Tally(self.calls - earlier.calls, self.content_bytes - earlier.content_bytes)

    def show(self) -> None:
        """For people: ``1 list, 11 details`` or ``nothing``."""
        parts = [f"{count} {action}" for action, count in self.calls.most_common()]
        if self.content_bytes:
            parts.append(f"{_size(self.content_bytes)} of content")
        click.secho(f"[the service saw: {', '.join(parts) or 'nothing'}]", fg="cyan")


def run_tour(steps: Sequence[Step], mountpoint: Path, ledger: Ledger, stop: StopRequest) -> bool:
    """Show every one of *steps* whose tool is installed; tells whether all went as they should.

    Ends early, with True, where *stop* is requested.
    """
    all_went_well = True
    left_out: list[str] = []
    before = Tally.of(ledger)
    before.show()
    for step in steps:
        if stop.requested:
            break
        if shutil.which(step.tool) is None:
            left_out.append(step.tool)
            continue
        _show(step)
        with _dots() if step.waits else nullcontext():
            problem = _run(step, mountpoint, stop) or _await_call(step, before, ledger, stop)
        after = Tally.of(ledger)
        after.since(before).show()
        before = after
        if problem is not None and not stop.requested:
            all_went_well = False
            click.secho(f"[{problem}]", fg="red")
    if left_out:
        click.echo(f"\nLeft out, as they are not installed: {', '.join(dict.fromkeys(left_out))}.")
    return all_went_well


def _show(step: Step) -> None:
    click.echo()
    for line in step.about.splitlines():
        click.secho(f"# {line}", fg="green")
    click.secho(f"$ {step.command}", bold=True)


def _run(step: Step, mountpoint: Path, stop: StopRequest) -> str | None:
    """Run one step, whose output goes where ours goes; what was wrong with it, or None."""
    process = Popen(["sh", "-c", step.command], cwd=mountpoint, stdin=DEVNULL, process_group=0)  # noqa: S603, S607  # constants of the tour
    if not stop.wait_for(process, STEP_LIMIT_S):
        os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(KILL_LIMIT_S)
        except TimeoutExpired:
            return "it hangs, and cannot be ended before the mount is"
        return f"ended after {STEP_LIMIT_S:.0f} s"
    if process.returncode != step.status:
        return f"exit status {process.returncode} instead of {step.status}"
    return None


def _await_call(step: Step, before: Tally, ledger: Ledger, stop: StopRequest) -> str | None:
    """Wait for the call that follows the step; what was wrong with it, or None."""
    if step.then is None:
        return None
    deadline_s = time.monotonic() + STEP_LIMIT_S
    while not stop.requested and ledger.count(step.then) <= before.calls[step.then]:
        if time.monotonic() > deadline_s:
            return f"the service was not asked to {step.then} within {STEP_LIMIT_S:.0f} s"
        time.sleep(0.05)
    return None


@contextmanager
def _dots() -> Iterator[None]:
    """A line that grows while somebody waits."""
    ended = Event()

    def grow() -> None:
        while not ended.wait(DOT_S):
            click.echo(".", nl=False)

    thread = Thread(target=grow, name="dots", daemon=True)
    click.echo("waiting for the service ...", nl=False)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        click.echo()


def _size(size_bytes: int) -> str:
    if size_bytes < 1 << 20:
        return f"{size_bytes / (1 << 10):.0f} KiB"
    return f"{size_bytes / (1 << 20):.1f} MiB"
