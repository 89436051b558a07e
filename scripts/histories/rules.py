"""What may happen to an account and its mount, each thing a step of a history.

Whatever is listed, read, renamed, removed, copied, moved and fetched, by whatever means, however often the mount dies,
whatever is changed behind its back, whichever answers are lost: the tree is the model's, no image is lost, and none is
made twice.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from histories.model import REGIONS, Held, Outcome
from histories.mounted_account import CONTENT_BY_CHECKSUM, MountedAccount, checksum_of
from histories.programs import attempt, eventually, run
from imagefs.emulator import Fault

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
        Fault("delayed", action="any", value=0.1),
        Fault("reset", action="list"),
        Fault("reset", action="retrieve", after_bytes=1000),
    ]
)
COPIERS: Final = {
    "cp": lambda source, target: ["cp", source, target],
    "dd": lambda source, target: ["dd", f"if={source}", f"of={target}", "bs=64K", "status=none"],
    "rsync": lambda source, target: ["rsync", "--ignore-times", source, target],
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


Step = TypeVar("Step", bound=Callable[..., None])


def step(**arguments: Any) -> Callable[[Step], Step]:
    """A rule whose steps are counted and told."""

    def make(function: Step) -> Step:
        @wraps(function)
        def noted(self: Histories, **chosen: Any) -> None:
            self.trail.append((function.__name__, chosen))
            began_s = time.monotonic()
            try:
                function(self, **chosen)
            finally:
                self.seconds[function.__name__] += time.monotonic() - began_s

        return rule(**arguments)(noted)

    return make


class Histories(MountedAccount):
    """What may happen, in any order. ``trail`` is what did, ``seconds`` how long each kind of it took in all."""

    def __init__(self) -> None:
        super().__init__()
        self.trail: list[tuple[str, dict[str, Any]]] = []
        self.seconds: Counter[str] = Counter()

    def teardown(self) -> None:
        """Come to rest, unless the history is over for another reason; leave nothing behind."""
        with self.left:
            if sys.exception() is None:
                self.end_all()
                self.mounted.umount()
                assert not self.mounted.problems, self.mounted.problems

    def end_all(self) -> None:
        """Wait until nothing is under way and the mount knows of all; every image can be read then."""
        self.come_to_rest(Outcome(self.model.after()))
        if self.model.stale:
            self.remount()
            self.await_tree()
        whole = {
            self.path(image_id): one.checksum for image_id, one in self.model.images.items() if not one.failed
        }
        content = b"".join(CONTENT_BY_CHECKSUM[checksum] for checksum in whole.values())
        if whole:
            eventually(lambda: attempt("cat", *whole).stdout == content)

    def choose_at_rest(self, which: int) -> tuple[str, Held]:
        """One of the images, when nothing is under way and the mount knows all of them; there always is one."""
        self.end_all()
        if not self.model.images:
            self.choose(which)  # which adds one
            self.end_all()
        return self.choose(which)

    def is_free(self, region: str, name: str) -> bool | None:
        """Whether a program can make a file of that name, None where that depends on the last second."""
        has_name = self.model.has_name(region, name)
        return None if has_name is None else not has_name

    # What people do

    @step()
    def look(self) -> None:
        """Each region lists what it should."""
        if not self.model.stale and not self.troubled:
            for region in REGIONS:
                listed, expected = self.listed(region), sorted(self.model.files(region))
                assert listed == expected, f"{region} lists {listed}, not {expected}"

    @step(which=WHICH, fault=FAULTS)
    def read(self, which: int, fault: Fault | None) -> None:
        """The image's bytes, or an error."""
        image_id, one = self.choose(which)
        done, struck = self.attempt(["cat", self.path(image_id)], fault)
        if done.returncode == 0:
            assert done.stdout == CONTENT_BY_CHECKSUM[one.checksum], f"wrong bytes of image {image_id}"
        elif self.is_certain(image_id) and not struck:
            raise AssertionError(f"image {image_id} cannot be read: {done.stderr!r}")

    @step(which=WHICH)
    def wait(self, which: int) -> None:
        """Who waits for an image finds it made."""
        image_id, one = self.choose(which)
        done, _ = self.attempt(["sync", self.path(image_id)], None)
        if not self.model.stale and not self.troubled:
            assert done.returncode == int(one.failed), done.stderr

    @step(which=WHICH, name=NAMES, fault=FAULTS)
    def rename(self, which: int, name: str, fault: Fault | None) -> None:
        """``mv`` within a region."""
        image_id, one = self.choose(which)
        path = self.path(image_id)
        done = Outcome(self.model.after(renamed=(image_id, name)))
        possible = self.is_free(one.region, name)
        if self.change(["mv", path, path.with_name(name)], done, fault, possible):
            self.put(image_id, name=name)

    @step(which=WHICH, fault=FAULTS)
    def remove(self, which: int, fault: Fault | None) -> None:
        """``rm``; one that was just moved there may have its source back."""
        image_id, _ = self.choose(which)
        done = Outcome(self.model.after(without=image_id))
        sources = [source for source, replica in self.model.leaving.items() if replica == image_id]
        if not self.change(["rm", self.path(image_id)], done, fault, possible=True):
            return
        self.model.leaving[image_id] = None
        if sources:
            kept = self.model.after()
            back = {source: self.model.images[source] for source in sources}
            self.come_to_rest(Outcome(kept), Outcome({**kept, **back}))

    @step(which=WHICH, region=PLACES, name=NAMES, by=st.sampled_from(list(COPIERS)), fault=FAULTS)
    def copy(self, which: int, region: str, name: str, by: str, fault: Fault | None) -> None:
        """A program copies an image; within a region that is possible only if another one has the content."""
        image_id, one = self.choose(which)
        new = replace(one, region=region, name=name)
        sources = self.model.elsewhere(region, one.checksum)
        possible = self.is_free(region, name) if sources and not one.failed else False
        if possible and (image_id in self.model.fresh or sources <= self.model.fresh):
            possible = None
        command = COPIERS[by](self.path(image_id), self.mounted / region / name)
        if self.change(command, Outcome(self.model.after(), (new,)), fault, possible):
            self.born(new, *sources)

    @step(which=WHICH, further=st.integers(1, 2), name=NAMES, fault=FAULTS)
    def move(self, which: int, further: int, name: str, fault: Fault | None) -> None:
        """``mv`` to another region."""
        image_id, one = self.choose(which)
        new = replace(one, region=self.other(one.region, further), name=name)
        possible = self.is_free(new.region, name) if not one.failed else False
        command = ["mv", self.path(image_id), self.mounted / new.region / name]
        done = Outcome(self.model.after(without=image_id), (new,))
        if self.change(command, done, fault, None if image_id in self.model.fresh and possible else possible):
            self.model.leaving[image_id] = self.born(new, image_id)

    @step(region=PLACES, name=NAMES, number=CONTENTS, fault=FAULTS)
    def fetch(self, region: str, name: str, number: int, fault: Fault | None) -> None:
        """A URL written to the control file."""
        new = Held(region, name, checksum_of(number))
        possible = None if self.model.has_name(region, name) is not False else True
        command = self.fetch_command(region, name, number)
        if self.change(command, Outcome(self.model.after(), (new,)), fault, possible):
            self.born(new)

    # What goes wrong

    @step(killed=st.booleans())
    def end(self, killed: bool) -> None:
        """The mount ends, by a person or by SIGKILL, and comes back."""
        self.service.faults.clear()
        if killed:
            self.mounted.kill()
            self.mount_again()
        else:
            self.remount()

    @step(which=WHICH, further=st.integers(1, 2), name=NAMES, number=CONTENTS, moment=MOMENTS, stop=STOPS)
    def die(
        self, which: int, further: int, name: str, number: int, moment: tuple[str, str], stop: str | None
    ) -> None:
        """SIGKILL while a program changes the account: all of it is done in the end, or nothing is."""
        image_id, one = self.choose_at_rest(which)
        path, elsewhere = self.path(image_id), self.other(one.region, further)
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
                self.fetch_command(elsewhere, name, number),
                Outcome(self.model.after(), (Held(elsewhere, name, checksum_of(number)),)),
            ),
        }
        command, done = commands[moment[0]]
        self.die_during(command, done, moment[1], stop)

    @step(fault=FAULTS)
    def trouble(self, fault: Fault | None) -> None:
        """The next call of that kind is struck, whoever makes it and whenever."""
        if fault is not None:
            self.service.faults.add(fault)

    @step(which=WHICH, further=st.integers(1, 2), name=NAMES, moved=st.booleans())
    def a_replica_fails(self, which: int, further: int, name: str, moved: bool) -> None:
        """The service gives a replica up: its source stays, moved or not."""
        image_id, one = self.choose_at_rest(which)
        new = replace(one, region=self.other(one.region, further), name=name)
        if one.failed or not self.is_free(new.region, name):
            return
        self.service.faults.add(Fault("replica_killed"))
        run("mv" if moved else "cp", self.path(image_id), self.mounted / new.region / name)
        self.come_to_rest(Outcome(self.model.after(), (replace(new, failed=True),)))

    @step(region=PLACES, name=NAMES, number=CONTENTS)
    def somebody_adds(self, region: str, name: str, number: int) -> None:
        """An image of somebody else."""
        self.add(region, name, number)

    @step(which=WHICH, name=NAMES)
    def somebody_renames(self, which: int, name: str) -> None:
        """Behind the mount's back."""
        image_id = self.choose_quiet(which)
        if image_id is not None:
            self.service.rename_image(image_id, name)
            self.hide(image_id)
            self.put(image_id, name=name)

    @step(which=WHICH)
    def somebody_removes(self, which: int) -> None:
        """Behind the mount's back."""
        image_id = self.choose_quiet(which)
        if image_id is not None and len(self.model.images) > 1:
            self.service.remove_image(image_id)
            self.hide(image_id)
            del self.model.images[image_id]

    @precondition(lambda self: self.model.fresh or self.model.stale or self.troubled)
    @step()
    def settle(self) -> None:
        """Everything that is under way ends as it should, and can be read."""
        self.end_all()

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        """At every moment."""
        problems = self.model.unsound(self.service.images())
        assert not problems, problems
