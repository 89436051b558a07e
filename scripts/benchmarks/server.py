"""The emulator, as a process of its own, with the images that the experiments need.

All programs that are compared read from it: imagefs by signed calls, the others by plain GET.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.machine import IMAGEFS, BenchError
from imagefs.emulator import Emulator

REGION: Final = "toronto"
"""Where all images with content of their own are."""

QUIET_S: Final = 0.5
"""A ledger that did not change for so long is complete."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the account must hold: ``images``, name to size in bytes; ``crowds``, region to number of images."""

    images: Mapping[str, int]
    crowds: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was asked of the server: number of calls by action, and bytes of content sent."""

    calls: Mapping[str, int]
    bytes_retrieved: int


def fill(data_dir: Path, wanted: Wanted) -> dict[str, Path]:
    """Make the account in *data_dir*; tells the file of each image with content, by its name."""
    emulator = Emulator(data_dir)
    try:
        contents = {}
        for seed, (name, size_bytes) in enumerate(wanted.images.items()):
            contents[name] = emulator.content(emulator.add_synthetic(name, REGION, size_bytes, seed))
        for region, count in wanted.crowds.items():
            emulator.add_listed((f"image-{number:05}.iso" for number in range(count)), region, b"listed")
        return contents
    finally:
        emulator.close()


@contextmanager
def serving(data_dir: Path, contents: Mapping[str, Path]) -> Iterator[Server]:
    """The server of the account in *data_dir*, until the block ends. Raises BenchError."""
    command = (IMAGEFS, "emulator", "--data", str(data_dir))
    # A session of its own: Ctrl-C must reach it after the mounts, which still talk to it.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            word, _, api_url = process.stdout.readline().strip().partition(" ")
            if word != "API:":
                raise BenchError("The emulator did not start.")
            yield Server(process.pid, api_url, data_dir / "credentials.toml", contents)
        finally:
            process.terminate()


@dataclass(frozen=True, slots=True)
class Server:
    """A running emulator. ``contents`` is the file of each image with content, by its name."""

    pid: int
    api_url: str
    credentials_file: Path
    contents: Mapping[str, Path]

    @property
    def plain_url(self) -> str:
        """An index of the images with content, by name, for plain GET."""
        return self._url(f"plain/{REGION}/")

    @contextmanager
    def behaving(self, **switches: Any) -> Iterator[None]:
        """Turn *switches* of the emulator, until the block ends."""
        before = self._control("switches")
        self._control("switches", "POST", switches)
        try:
            yield
        finally:
            self._control("switches", "POST", {name: before[name] for name in switches})

    def clear_ledger(self) -> None:
        """Count from here."""
        self._control("ledger", "DELETE")

    def ledger(self) -> Ledger:
        """What was asked since the ledger was cleared, once nothing comes any more. Raises BenchError."""
        give_up_s = time.monotonic() + 60.0
        ledger, changed_s = self._ledger(), time.monotonic()
        while time.monotonic() < changed_s + QUIET_S:
            time.sleep(0.05)
            latest = self._ledger()
            if latest != ledger:
                ledger, changed_s = latest, time.monotonic()
            if changed_s > give_up_s:
                raise BenchError("Transfers went on for a minute after the last reader was done.")
        return ledger

    def _ledger(self) -> Ledger:
        answer = self._control("ledger")
        return Ledger(Counter(call["action"] for call in answer["calls"]), answer["bytes_retrieved"])

    def _control(self, what: str, method: str = "GET", payload: Mapping[str, Any] | None = None) -> Any:
        body = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(self._url(f"control/{what}"), body, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def _url(self, path: str) -> str:
        return self.api_url.removesuffix("api/") + path
