"""Ways to read an image through the mount, each byte compared with what the image holds or held.

A reader sees one version from its opening to its end, or an error. What it got is judged at once, so that a break is
told with the place where it happened.
"""

from __future__ import annotations

import mmap
import os
import random
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from campaign import stalls
from campaign.clock import CallClock
from campaign.subjects import Subject

PAGE: Final = 4096


@dataclass(slots=True)
class Witness:
    """Compares what one reader gets through one handle. ``wrong`` is the first thing that was not right."""

    subject: Subject
    shape: str
    candidates: list[bytes] = field(default_factory=list)
    covered: int = 0
    is_whole: bool = False
    wrong: str | None = None
    error: OSError | None = None
    got_bytes: int = 0

    def __post_init__(self) -> None:
        self.candidates = list(self.subject.versions)

    def saw(self, offset: int, data: bytes, asked: int) -> None:
        """*data* came for a read of *asked* bytes at *offset*, and the call said that it succeeded."""
        self.got_bytes += len(data)
        # The image may have got another version since this reader began.
        if len(self.candidates) == 0 or self.wrong is not None:
            return
        known = self.candidates if self.got_bytes > len(data) else list(self.subject.versions)
        self.candidates = [version for version in known if version[offset : offset + asked] == data]
        if not self.candidates:
            self.wrong = self._how(offset, data, asked)

    def ended(self, length: int) -> None:
        """The whole was read, up to an end at *length*."""
        self.is_whole = True
        if self.wrong is None and not any(len(version) == length for version in self.candidates):
            self.wrong = f"the content ended after {length} bytes"

    @property
    def verdict(self) -> str | None:
        """What promise 1 has to say: None where all is right."""
        if self.wrong is None:
            return None
        if self.subject.rotten and not (self.is_whole and self.error is None):
            return None
        return f"{self.shape} of {self.subject}: {self.wrong}"

    def _how(self, offset: int, data: bytes, asked: int) -> str:
        expected = self.subject.content[offset : offset + asked]
        if expected.startswith(data):
            return f"{len(data)} instead of {len(expected)} bytes at {offset}"
        place = next(
            (index for index, pair in enumerate(zip(expected, data, strict=False)) if pair[0] != pair[1]), -1
        )
        return (
            f"wrong bytes at {offset + place} (read of {asked} at {offset} gave {len(data)}): "
            f"{data[place : place + 8].hex()} instead of {expected[place : place + 8].hex()}"
        )


Shape = Callable[[Path, Witness, random.Random, CallClock, float], None]
"""Reads a file as somebody would. Raises OSError where the mount says that it cannot be had."""


def _open(path: Path, clock: CallClock, extra_s: float, flags: int = 0) -> int:
    with clock.call("open", f"open {path}", extra_s):
        return os.open(path, os.O_RDONLY | flags)


def _pread(descriptor: int, asked: int, offset: int, clock: CallClock, path: Path, extra_s: float) -> bytes:
    """What is there at *offset*, up to *asked* bytes; pread(2) may give less before an error, and then goes on."""
    data = b""
    while len(data) < asked:
        with clock.call("read", f"pread {path} at {offset + len(data)}", extra_s):
            more = os.pread(descriptor, asked - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def _sequential(path: Path, witness: Witness, rng: random.Random, clock: CallClock, extra_s: float) -> None:
    size = rng.choice((PAGE, 1 << 16, 1 << 17, 1 << 20, 100_003))
    descriptor = _open(path, clock, extra_s)
    try:
        offset = 0
        while True:
            with clock.call("read", f"read {path} at {offset}", extra_s):
                data = os.read(descriptor, size)
            if not data:
                break
            witness.saw(offset, data, len(data))
            offset += len(data)
        witness.ended(offset)
    finally:
        os.close(descriptor)


def _random(path: Path, witness: Witness, rng: random.Random, clock: CallClock, extra_s: float) -> None:
    """Some places, in any order."""
    size = len(witness.subject.content)
    descriptor = _open(path, clock, extra_s)
    try:
        for _ in range(rng.randint(3, 20)):
            offset, asked = rng.randrange(size), rng.choice((1, 512, PAGE, 1 << 16))
            witness.saw(offset, _pread(descriptor, asked, offset, clock, path, extra_s), asked)
    finally:
        os.close(descriptor)


def _shuffled(path: Path, witness: Witness, rng: random.Random, clock: CallClock, extra_s: float) -> None:
    """The whole, in pieces in any order."""
    size = len(witness.subject.content)
    piece = rng.choice((1 << 16, 200_000, 1 << 18))
    offsets = list(range(0, size, piece))
    rng.shuffle(offsets)
    descriptor = _open(path, clock, extra_s)
    try:
        for offset in offsets:
            witness.saw(offset, _pread(descriptor, piece, offset, clock, path, extra_s), piece)
        witness.saw(size, _pread(descriptor, 1, size, clock, path, extra_s), 1)
        witness.is_whole = True
    finally:
        os.close(descriptor)


def _direct(path: Path, witness: Witness, rng: random.Random, clock: CallClock, extra_s: float) -> None:
    """Around the page cache, from beginning to end."""
    descriptor = _open(path, clock, extra_s, os.O_DIRECT)
    try:
        with mmap.mmap(-1, rng.choice((PAGE, 1 << 16, 1 << 18))) as buffer:
            offset = 0
            while True:
                with clock.call("read", f"direct read {path} at {offset}", extra_s):
                    count = os.preadv(descriptor, [buffer], offset)
                if not count:
                    break
                witness.saw(offset, buffer[:count], count)
                offset += count
            witness.ended(offset)
    finally:
        os.close(descriptor)


def _sendfile(path: Path, witness: Witness, _: random.Random, clock: CallClock, extra_s: float) -> None:
    """From the kernel's pages into another file."""
    descriptor = _open(path, clock, extra_s)
    try:
        with tempfile.TemporaryFile() as target:
            offset = 0
            while True:
                with clock.call("read", f"sendfile {path} at {offset}", extra_s):
                    count = os.sendfile(target.fileno(), descriptor, offset, 1 << 17)
                if not count:
                    break
                witness.saw(offset, os.pread(target.fileno(), count, offset), count)
                offset += count
            witness.ended(offset)
    finally:
        os.close(descriptor)


MAPPING_READER: Final = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    sys.stdout.buffer.write(mapping[:])
"""


def _mapped(path: Path, witness: Witness, _: random.Random, clock: CallClock, extra_s: float) -> None:
    """A program that maps the file; pages that cannot be had end it with SIGBUS."""
    _piped([sys.executable, "-S", "-E", "-c", MAPPING_READER, str(path)], path, witness, clock, extra_s)


def _cat(path: Path, witness: Witness, _: random.Random, clock: CallClock, extra_s: float) -> None:
    _piped(["cat", str(path)], path, witness, clock, extra_s)


def _piped(command: list[str], path: Path, witness: Witness, clock: CallClock, extra_s: float) -> None:
    """The output of a program that copies the file there."""
    done = stalls.run(command, "read", f"{command[0]} {path}", clock, extra_s)
    if done.stdout:
        witness.saw(0, done.stdout, len(done.stdout))
    if done.returncode != 0:
        raise OSError(done.returncode, done.stderr.decode(errors="replace").strip()[-200:])
    witness.ended(len(done.stdout))


SHAPES: Final[dict[str, Shape]] = {
    "sequential": _sequential,
    "random": _random,
    "shuffled": _shuffled,
    "direct": _direct,
    "sendfile": _sendfile,
    "mapped": _mapped,
    "cat": _cat,
}
"""All ways to read, by name."""


def read(
    root: Path, subject: Subject, shape: str, rng: random.Random, clock: CallClock, extra_s: float = 0.0
) -> Witness:
    """Read *subject* below *root* in that shape, and tell what came of it."""
    witness = Witness(subject, shape)
    try:
        SHAPES[shape](root / subject.path, witness, rng, clock, extra_s)
    except OSError as error:
        witness.error = error
    return witness
