"""An account, its mount and the model of both: what the steps of a random history are made of."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from hypothesis.stateful import RuleBasedStateMachine

from histories.daemon import Daemon
from histories.model import REGIONS, Held, Model, Outcome, content_of, held
from histories.programs import ENVIRONMENT, PATIENCE_S, attempt, eventually, run
from imagefs.emulator import Emulator, Fault, Switches

SAVING_S: Final = 0.03
LONG_S: Final = 600.0
MOST_IMAGES: Final = 12
IN_MEMORY: Final = Path("/dev/shm")
"""Where the service and the cache lie: their disk would be waited for most of the time."""


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


CONTENT_BY_CHECKSUM: Final = {checksum_of(number): content_of(number) for number in range(6)}


class MountedAccount(RuleBasedStateMachine):
    """One account and its mount, from the first step to the last; the rules are added by who derives from it."""

    def __init__(self) -> None:
        super().__init__()
        with ExitStack() as stack:
            folder = Path(tempfile.mkdtemp(prefix="imagefs-test-", dir=IN_MEMORY))
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
            self.mounted = Daemon(folder, self.service)
            stack.callback(self.mounted.clear_away)
            self.mounted.mount()
            self.left = stack.pop_all()
        self.troubled = False

    def remount(self) -> None:
        """Unmount and mount again."""
        self.mounted.umount()
        self.mounted.mount()
        self.is_new()

    def attempt(
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

    def change(
        self, command: Sequence[str | Path], done: Outcome, fault: Fault | None, possible: bool | None
    ) -> bool:
        """Whether a program said that it has changed the account.

        *possible*: whether it should succeed, None where that depends on what the mount knows by now. Where a fault
        struck and the program failed, it is found out whether it was *done*.
        """
        if len(self.model.images) >= MOST_IMAGES and done.new:
            return False
        nothing = Outcome(self.model.after())
        ended, struck = self.attempt(command, fault)
        succeeded = ended.returncode == 0
        if possible is not None and not self.troubled and not self.model.stale:
            assert succeeded == possible, f"{command} ended with {ended.returncode}: {ended.stderr!r}"
        if struck and not succeeded:
            self.come_to_rest(nothing, done)
            self.model.stale = True
        return succeeded

    def die_during(self, command: Sequence[str | Path], done: Outcome, action: str, stop: str | None) -> None:
        """SIGKILL once the service has been asked for *action* by *command*, or that is over."""
        if len(self.model.images) >= MOST_IMAGES and done.new:
            return
        nothing = Outcome(self.model.after())
        asked, struck = self.service.ledger.count(action), self.service.faults.struck.total()
        if stop is not None:
            self.service.faults.add(Fault(stop, action=action, value=LONG_S))
        words = list(map(str, command))
        with subprocess.Popen(words, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as program:
            eventually(lambda: self.service.ledger.count(action) > asked or program.poll() is not None)
            self.mounted.kill()
            program.wait(PATIENCE_S)
        carried_out = stop == "delayed" and action != "list" and self.service.faults.struck.total() > struck
        self.service.faults.clear()
        self.mount_again()
        if program.returncode == 0 or carried_out:
            self.come_to_rest(done)
        else:
            self.come_to_rest(nothing, done)

    def mount_again(self) -> None:
        """Mount once the service is done with all that was asked of it."""
        eventually(lambda: all(call.outcome != "in progress" for call in self.service.ledger.calls))
        self.mounted.mount()
        self.is_new()

    def is_new(self) -> None:
        """A new mount knows of all that happened before it."""
        self.model.stale = self.troubled = False
        self.model.ghosts.clear()

    def come_to_rest(self, *allowed: Outcome) -> None:
        """Wait until one of these is what the account holds, and the mount has nothing under way any more."""
        self.service.faults.clear()
        images = self.service.images()

        def is_at_rest() -> bool:
            nonlocal images
            if self.mounted.has_work:
                return False
            images = self.service.images()
            return any(outcome.is_met_by(images) for outcome in allowed)

        try:
            eventually(is_at_rest)
        except AssertionError:
            raise AssertionError(
                f"{images} is none of {allowed}, or the mount does not come to rest"
            ) from None
        made = [
            *self.model.fresh,
            *(image.image_id for image in images if image.image_id not in self.model.images),
        ]
        self.model.adopt(images)
        for image_id in made:
            if image_id in self.model.images:
                self._await_end_of(image_id)
        if not self.model.stale:
            self.await_tree()

    def _await_end_of(self, image_id: str) -> None:
        """Wait until the mount is done with an image: ``sync`` does, and fails for a failed one."""
        failed = self.model.images[image_id].failed
        path = self.path(image_id)
        said = b""

        def has_ended() -> bool:
            nonlocal said
            done = attempt("sync", path)
            said = done.stderr
            return b"Input/output error" in said if failed else done.returncode == 0

        try:
            eventually(has_ended)
        except AssertionError:
            shown = run("ls", "-R", self.mounted.path).decode()
            raise AssertionError(
                f"no end with {path}: {said!r}; the service has {self.service.images()}, the mount {shown}"
            ) from None

    def await_tree(self) -> None:
        """Wait until the mount shows what it should."""
        expected = {region: sorted(self.model.files(region)) for region in REGIONS}
        listed: dict[str, list[str]] = {}

        def is_shown() -> bool:
            listed.update({region: self.listed(region) for region in REGIONS})
            return listed == expected

        try:
            eventually(is_shown)
        except AssertionError:
            raise AssertionError(f"the mount lists {listed}, not {expected}") from None

    def add(self, region: str, name: str, number: int) -> None:
        """An image of somebody else, which the mount does not know of yet."""
        image_id = self.service.add_image(name, region, content_of(number))
        self.model.images[image_id] = Held(region, name, checksum_of(number))
        self.model.stale = True

    def choose(self, which: int) -> tuple[str, Held]:
        """One of the images that are shown, as it is; there always is one."""
        shown = self.model.shown()
        if not shown:
            self.add("toronto", "a", which % 6)
            shown = self.model.shown()
        image_id = list(shown)[which % len(shown)]
        return image_id, shown[image_id]

    def choose_quiet(self, which: int) -> str | None:
        """An image that nothing is under way for."""
        busy = {*self.model.fresh, *self.model.leaving}
        quiet = [image_id for image_id in self.model.images if image_id not in busy]
        return quiet[which % len(quiet)] if quiet else None

    def is_certain(self, image_id: str) -> bool:
        """Whether the mount must know that image, as it is, and have nothing under way for it."""
        one = self.model.images.get(image_id)
        known = one is not None and image_id not in self.model.fresh and not one.failed
        return known and not self.model.stale and not self.troubled

    def put(self, image_id: str, *, name: str) -> None:
        """An image has another name, where it is there at all."""
        if image_id in self.model.images:
            self.model.images[image_id] = replace(self.model.images[image_id], name=name)
            if image_id in self.model.ghosts:
                self.model.ghosts[image_id] = self.model.images[image_id]

    def hide(self, image_id: str) -> None:
        """The mount may not know of what becomes of this image."""
        self.model.ghosts.setdefault(image_id, self.model.images[image_id])
        self.model.stale = True

    def born(self, new: Held, *sources: str) -> str:
        """The id of the one image that was just made."""
        images = {image.image_id: image for image in self.service.images()}
        [image_id] = images.keys() - self.model.images.keys()
        assert images[image_id].region == new.region
        self.model.images[image_id] = new
        self.model.fresh.update((image_id, *sources))
        return image_id

    def other(self, region: str, further: int) -> str:
        """The region so many places further."""
        return REGIONS[(REGIONS.index(region) + further) % len(REGIONS)]

    def path(self, image_id: str) -> Path:
        """Where a shown image is in the mount."""
        region, name = self.model.file_of(image_id)
        return self.mounted / region / name

    def listed(self, region: str) -> list[str]:
        """What ``ls`` shows of a region."""
        return sorted(run("ls", self.mounted / region).decode().splitlines())

    def fetch_command(self, region: str, name: str, number: int) -> list[str | Path]:
        """What has content *number* downloaded."""
        line = f"{self.source_url}/{number} 'name={name}' format=iso"
        return ["bash", "-c", 'echo "$1" > "$2"', "bash", line, self.mounted / region / ".fetch"]
