"""Random histories on a real mount, against a plain model of the account.

Whatever is listed, read, renamed, removed, copied, moved and fetched, by whatever means, however often the mount dies,
whatever is changed behind its back, whichever answers are lost: the tree is the model's, no image is lost, and none is
made twice.

``IMAGEFS_MODEL_STEPS`` is how many steps are taken in all; with ``IMAGEFS_MODEL_SEED`` the histories are others than
those that are the same each time.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mount_model import REGIONS, Held, Model, Outcome, content_of, held
from mount_point import Mounted
from mount_programs import attempt, environment_of, eventually, run

from imagefs.emulator import Emulator, Fault, Switches

STEPS: Final = int(os.environ.get("IMAGEFS_MODEL_STEPS", "60"))
STEPS_A_MOUNT: Final = 20
SAVING_S: Final = 0.2
REST_S: Final = 120.0
"""Longer than it ever takes until the last thing that is under way has ended."""

LONG_S: Final = 600.0
MOST_IMAGES: Final = 12

WHICH = st.integers(0, 99)
NAMES = st.sampled_from(["a", "b.img", "c.iso", "d e"])
PLACES = st.sampled_from(REGIONS)
CONTENTS = st.integers(0, 5)
LOST: Final = [Fault("answer_lost", action=action) for action in ("replicate", "rename", "delete", "fetch")]
GARBLED: Final = [
    Fault("truncated_json", action=action)
    for action in ("replicate", "rename", "delete", "fetch", "list", "details")
]
FAULTS = st.sampled_from(
    [
        *[None] * 12,
        *LOST * 2,
        *GARBLED,
        Fault("status", action="any", status=503),
        Fault("delayed", action="any", value=0.2),
        Fault("reset", action="list"),
        Fault("reset", action="retrieve", after_bytes=1000),
    ]
)
COPIERS: Final = {
    "cp": lambda source, target: ["cp", source, target],
    "dd": lambda source, target: ["dd", f"if={source}", f"of={target}", "bs=64K", "status=none"],
    "rsync": lambda source, target: ["rsync", source, target],
}
STOPS = st.sampled_from([None, "never_answers", "delayed"])
"""How the service keeps a call waiting during which the mount is killed: not carried out, or not answered."""

MOMENTS = st.sampled_from(
    [
        *[("copy", action) for action in ("list", "replicate", "rename")],
        *[("move", action) for action in ("list", "replicate", "rename", "delete")],
        ("rename", "rename"),
        ("remove", "delete"),
        ("fetch", "fetch"),
    ]
)
"""What is done, and the call of it during which the mount is killed."""

CONTENT_BY_CHECKSUM: Final = {
    hashlib.md5(content).hexdigest(): content for content in map(content_of, range(6))
}


class Source(BaseHTTPRequestHandler):
    """A web server that has each content under its number."""

    def do_GET(self) -> None:
        """Answer with the bytes."""
        content = content_of(int(self.path.strip("/")))
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


def checksum_of(number: int) -> str:
    """The MD5 of content *number*."""
    return hashlib.md5(content_of(number)).hexdigest()


class Histories(RuleBasedStateMachine):
    """One account and its mount, from the first step to the last."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="imagefs-test-"))
            stack.callback(shutil.rmtree, folder)
            self.service = stack.enter_context(
                Emulator(folder / "service", switches=Switches(saving_s=SAVING_S))
            )
            web = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Source))
            threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}).start()
            stack.callback(web.shutdown)
            self.source_url = f"http://127.0.0.1:{web.server_port}"
            for number, region in enumerate(REGIONS):
                self.service.add_image("a", region, content_of(number))
            self.model = Model({image.image_id: held(image) for image in self.service.images()})
            self.mounted = Mounted(
                folder / "a",
                api_url=self.service.api_url,
                credentials=self.service.credentials_file,
                cache_dir=folder / "cache",
            )
            self.mounted.may_log(" WARNING ")
            stack.callback(self._clean_up)
            self.mounted.mount()
            self._left = stack.pop_all()
        self.troubled = False

    def _clean_up(self) -> None:
        problems = self.mounted.clean_up()
        assert not problems

    def teardown(self) -> None:
        """Come to rest; leave nothing behind."""
        with self._left:
            self.settle()

    # What people do

    @rule()
    def look(self) -> None:
        """Each region lists what it should."""
        if not self.model.stale and not self.troubled:
            for region in REGIONS:
                listed, expected = self._listed(region), sorted(self.model.files(region))
                assert listed == expected, f"{region} lists {listed}, not {expected}"

    @rule(which=WHICH, fault=FAULTS)
    def read(self, which: int, fault: Fault | None) -> None:
        """The image's bytes, or an error."""
        image_id, one = self._choose(which)
        done, struck = self._attempt(["cat", self._path(image_id)], fault)
        if done.returncode == 0:
            assert done.stdout == CONTENT_BY_CHECKSUM[one.checksum], f"wrong bytes of image {image_id}"
        elif self._is_certain(image_id) and not struck:
            raise AssertionError(f"image {image_id} cannot be read: {done.stderr!r}")

    @rule(which=WHICH)
    def wait(self, which: int) -> None:
        """Who waits for an image finds it made."""
        image_id, one = self._choose(which)
        done, _ = self._attempt(["sync", self._path(image_id)], None)
        if not self.model.stale and not self.troubled:
            assert done.returncode == int(one.failed), done.stderr

    @rule(which=WHICH, name=NAMES, fault=FAULTS)
    def rename(self, which: int, name: str, fault: Fault | None) -> None:
        """``mv`` within a region."""
        image_id, one = self._choose(which)
        path = self._path(image_id)
        done = Outcome(self.model.after(renamed=(image_id, name)))
        possible = not self.model.has_name(one.region, name)
        if self._change(["mv", path, path.with_name(name)], done, fault, possible):
            self._put(image_id, name=name)

    @rule(which=WHICH, fault=FAULTS)
    def remove(self, which: int, fault: Fault | None) -> None:
        """``rm``; one that was just moved there may have its source back."""
        image_id, _ = self._choose(which)
        done = Outcome(self.model.after(without=image_id))
        sources = [source for source, replica in self.model.leaving.items() if replica == image_id]
        if not self._change(["rm", self._path(image_id)], done, fault, possible=True):
            return
        self.model.leaving[image_id] = None
        if sources:
            kept = self.model.after()
            back = {source: self.model.images[source] for source in sources}
            self._come_to_rest(Outcome(kept), Outcome({**kept, **back}))
            self._await_tree()

    @rule(which=WHICH, region=PLACES, name=NAMES, by=st.sampled_from(list(COPIERS)), fault=FAULTS)
    def copy(self, which: int, region: str, name: str, by: str, fault: Fault | None) -> None:
        """A program copies an image; within a region that is possible only if another one has the content."""
        image_id, one = self._choose(which)
        new = replace(one, region=region, name=name)
        sources = self.model.elsewhere(region, one.checksum)
        possible: bool | None = bool(sources) and not self.model.has_name(region, name) and not one.failed
        if possible and (image_id in self.model.fresh or sources <= self.model.fresh):
            possible = None
        command = COPIERS[by](self._path(image_id), self.mounted / region / name)
        if self._change(command, Outcome(self.model.after(), (new,)), fault, possible):
            self._born(new, *sources)

    @rule(which=WHICH, further=st.integers(1, 2), name=NAMES, fault=FAULTS)
    def move(self, which: int, further: int, name: str, fault: Fault | None) -> None:
        """``mv`` to another region."""
        image_id, one = self._choose(which)
        new = replace(one, region=self._other(one.region, further), name=name)
        possible = not self.model.has_name(new.region, name) and not one.failed
        command = ["mv", self._path(image_id), self.mounted / new.region / name]
        done = Outcome(self.model.after(without=image_id), (new,))
        if self._change(
            command, done, fault, None if image_id in self.model.fresh and possible else possible
        ):
            self.model.leaving[image_id] = self._born(new, image_id)

    @rule(region=PLACES, name=NAMES, number=CONTENTS, fault=FAULTS)
    def fetch(self, region: str, name: str, number: int, fault: Fault | None) -> None:
        """A URL written to the control file."""
        new = Held(region, name, checksum_of(number))
        possible = None if self.model.has_name(region, name) else True
        command = self._fetch_command(region, name, number)
        if self._change(command, Outcome(self.model.after(), (new,)), fault, possible):
            self._born(new)

    # What goes wrong

    @rule(killed=st.booleans())
    def remount(self, killed: bool) -> None:
        """The mount ends, by a person or by SIGKILL, and comes back."""
        self.service.faults.clear()
        if killed:
            self.mounted.kill()
            self._mount_again()
        else:
            self.mounted.remount()
            self._is_new()

    @rule(which=WHICH, further=st.integers(1, 2), name=NAMES, number=CONTENTS, moment=MOMENTS, stop=STOPS)
    def die(
        self, which: int, further: int, name: str, number: int, moment: tuple[str, str], stop: str | None
    ) -> None:
        """SIGKILL while a program changes the account: all of it is done in the end, or nothing is."""
        self.settle()
        image_id, one = self._choose(which)
        path, elsewhere = self._path(image_id), self._other(one.region, further)
        new = replace(one, region=elsewhere, name=name)
        commands: dict[str, tuple[list[str | Path], Outcome]] = {
            "copy": (["cp", path, self.mounted / elsewhere / name], Outcome(self.model.after(), (new,))),
            "move": (
                ["mv", path, self.mounted / elsewhere / name],
                Outcome(self.model.after(without=image_id), (new,)),
            ),
            "rename": (
                ["mv", path, path.with_name(name)],
                Outcome(self.model.after(renamed=(image_id, name))),
            ),
            "remove": (["rm", path], Outcome(self.model.after(without=image_id))),
            "fetch": (
                self._fetch_command(elsewhere, name, number),
                Outcome(self.model.after(), (Held(elsewhere, name, checksum_of(number)),)),
            ),
        }
        command, done = commands[moment[0]]
        self._die_during(command, done, moment[1], stop)

    @rule(fault=FAULTS)
    def trouble(self, fault: Fault | None) -> None:
        """The next call of that kind is struck, whoever makes it and whenever."""
        if fault is not None:
            self.service.faults.add(fault)

    @rule(which=WHICH, further=st.integers(1, 2), name=NAMES, moved=st.booleans())
    def a_replica_fails(self, which: int, further: int, name: str, moved: bool) -> None:
        """The service gives a replica up: its source stays, moved or not."""
        self.settle()
        image_id, one = self._choose(which)
        new = replace(one, region=self._other(one.region, further), name=name)
        if one.failed or self.model.has_name(new.region, name):
            return
        self.service.faults.add(Fault("replica_killed"))
        run("mv" if moved else "cp", self._path(image_id), self.mounted / new.region / name)
        self._come_to_rest(Outcome(self.model.after(), (replace(new, failed=True),)))
        self._await_tree()

    @rule(region=PLACES, name=NAMES, number=CONTENTS)
    def somebody_adds(self, region: str, name: str, number: int) -> None:
        """An image of somebody else."""
        image_id = self.service.add_image(name, region, content_of(number))
        self.model.images[image_id] = Held(region, name, checksum_of(number))
        self.model.stale = True

    @rule(which=WHICH, name=NAMES)
    def somebody_renames(self, which: int, name: str) -> None:
        """Behind the mount's back."""
        image_id = self._choose_quiet(which)
        if image_id is not None:
            self.service.rename_image(image_id, name)
            self._hide(image_id)
            self._put(image_id, name=name)

    @rule(which=WHICH)
    def somebody_removes(self, which: int) -> None:
        """Behind the mount's back."""
        image_id = self._choose_quiet(which)
        if image_id is not None and len(self.model.images) > 1:
            self.service.remove_image(image_id)
            self._hide(image_id)
            del self.model.images[image_id]

    @precondition(lambda self: self.model.fresh or self.model.stale or self.troubled)
    @rule()
    def settle(self) -> None:
        """Everything that is under way ends as it should, and can be read."""
        self._come_to_rest(Outcome(self.model.after()))
        if self.model.stale:
            self.mounted.remount()
            self._is_new()
        self._await_tree()
        for image_id, one in self.model.images.items():
            if not one.failed:
                path = self._path(image_id)
                eventually(lambda: attempt("cat", path).stdout == CONTENT_BY_CHECKSUM[one.checksum], REST_S)  # noqa: B023

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        """At every moment."""
        self.steps += 1
        problems = self.model.unsound(self.service.images())
        assert not problems, problems

    # How

    def _attempt(
        self, command: Sequence[str | Path], fault: Fault | None
    ) -> tuple[subprocess.CompletedProcess[bytes], bool]:
        """Run a program while *fault* waits; also whether the service was struck by any."""
        before = self.service.faults.struck.total()
        if fault is not None:
            self.service.faults.add(fault)
        done = attempt(*command)
        struck = self.service.faults.struck.total() > before
        if fault is not None:
            self.service.faults.clear()
        self.troubled = self.troubled or struck
        return done, struck

    def _change(
        self, command: Sequence[str | Path], done: Outcome, fault: Fault | None, possible: bool | None
    ) -> bool:
        """Whether a program said that it has changed the account.

        *possible*: whether it should succeed, None where that depends on what the mount knows by now. Where a fault
        struck and the program failed, it is found out whether it was *done*.
        """
        if len(self.model.images) >= MOST_IMAGES and done.new:
            return False
        nothing = Outcome(self.model.after())
        ended, struck = self._attempt(command, fault)
        succeeded = ended.returncode == 0
        if possible is not None and not self.troubled and not self.model.stale:
            assert succeeded == possible, f"{command} ended with {ended.returncode}: {ended.stderr!r}"
        if struck and not succeeded:
            self._come_to_rest(nothing, done)
            self.model.stale = True
        return succeeded

    def _die_during(
        self, command: Sequence[str | Path], done: Outcome, action: str, stop: str | None
    ) -> None:
        """SIGKILL once the service has been asked for *action* by *command*, or that is over."""
        if len(self.model.images) >= MOST_IMAGES and done.new:
            return
        nothing = Outcome(self.model.after())
        asked = self.service.ledger.count(action)
        if stop is not None:
            self.service.faults.add(Fault(stop, action=action, value=LONG_S))
        words = list(map(str, command))
        with subprocess.Popen(
            words, stderr=subprocess.DEVNULL, env=environment_of(self.mounted.person)
        ) as program:
            eventually(
                lambda: self.service.ledger.count(action) > asked or program.poll() is not None, REST_S
            )
            self.mounted.kill()
            program.wait(REST_S)
        self.service.faults.clear()
        self._mount_again()
        self._come_to_rest(nothing, done)
        self._await_tree()

    def _mount_again(self) -> None:
        eventually(lambda: all(call.outcome != "in progress" for call in self.service.ledger.calls), REST_S)
        self.mounted.mount()
        self._is_new()

    def _is_new(self) -> None:
        """A new mount knows of all that happened before it."""
        self.model.stale = self.troubled = False
        self.model.ghosts.clear()

    def _come_to_rest(self, *allowed: Outcome) -> None:
        """Wait until one of these is what the account holds, with nothing under way."""
        self.service.faults.clear()
        images = self.service.images()

        def is_at_rest() -> bool:
            nonlocal images
            images = self.service.images()
            return any(outcome.is_met_by(images) for outcome in allowed)

        try:
            eventually(is_at_rest, REST_S)
        except AssertionError:
            raise AssertionError(f"{images} is none of {allowed}") from None
        self.model.adopt(images)

    def _await_tree(self) -> None:
        """Wait until the mount shows what it should."""
        expected = {region: sorted(self.model.files(region)) for region in REGIONS}
        listed: dict[str, list[str]] = {}

        def is_shown() -> bool:
            listed.update({region: self._listed(region) for region in REGIONS})
            return listed == expected

        try:
            eventually(is_shown, REST_S)
        except AssertionError:
            raise AssertionError(f"the mount lists {listed}, not {expected}") from None

    def _choose(self, which: int) -> tuple[str, Held]:
        shown = self.model.shown()
        if not shown:
            self.somebody_adds("toronto", "a", which % 6)
            shown = self.model.shown()
        image_id = list(shown)[which % len(shown)]
        return image_id, shown[image_id]

    def _choose_quiet(self, which: int) -> str | None:
        """An image that nothing is under way for."""
        busy = {*self.model.fresh, *self.model.leaving}
        quiet = [image_id for image_id in self.model.images if image_id not in busy]
        return quiet[which % len(quiet)] if quiet else None

    def _is_certain(self, image_id: str) -> bool:
        """Whether the mount must know that image, as it is, and have nothing under way for it."""
        one = self.model.images.get(image_id)
        known = one is not None and image_id not in self.model.fresh and not one.failed
        return known and not self.model.stale and not self.troubled

    def _put(self, image_id: str, *, name: str) -> None:
        if image_id in self.model.images:
            self.model.images[image_id] = replace(self.model.images[image_id], name=name)
            if image_id in self.model.ghosts:
                self.model.ghosts[image_id] = self.model.images[image_id]

    def _hide(self, image_id: str) -> None:
        """The mount may not know of what becomes of this image."""
        self.model.ghosts.setdefault(image_id, self.model.images[image_id])
        self.model.stale = True

    def _born(self, new: Held, *sources: str) -> str:
        """The id of the one image that was just made."""
        images = {image.image_id: image for image in self.service.images()}
        [image_id] = images.keys() - self.model.images.keys()
        assert images[image_id].region == new.region
        self.model.images[image_id] = new
        self.model.fresh.update((image_id, *sources))
        return image_id

    def _other(self, region: str, further: int) -> str:
        return REGIONS[(REGIONS.index(region) + further) % len(REGIONS)]

    def _path(self, image_id: str) -> Path:
        region, name = self.model.file_of(image_id)
        return self.mounted / region / name

    def _listed(self, region: str) -> list[str]:
        return sorted(run("ls", self.mounted / region).decode().splitlines())

    def _fetch_command(self, region: str, name: str, number: int) -> list[str | Path]:
        line = f"{self.source_url}/{number} 'name={name}' format=iso"
        return ["bash", "-c", 'echo "$1" > "$2"', "bash", line, self.mounted / region / ".fetch"]


@pytest.mark.timeout(max(120, STEPS * 10))
def test_the_tree_is_the_model_whatever_happens() -> None:
    """See the top of this file."""
    taken = 0

    class Counted(Histories):
        def teardown(self) -> None:
            nonlocal taken
            taken += self.steps
            super().teardown()

    how: Callable[[Any], Any] = lambda factory: factory  # noqa: E731  # the steps are the same each time
    if "IMAGEFS_MODEL_SEED" in os.environ:
        how = seed(int(os.environ["IMAGEFS_MODEL_SEED"]))
    run_state_machine_as_test(
        how(Counted),
        settings=settings(
            max_examples=max(1, STEPS // STEPS_A_MOUNT),
            stateful_step_count=STEPS_A_MOUNT,
            derandomize="IMAGEFS_MODEL_SEED" not in os.environ,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{taken} steps")
