"""What the campaigns that look at a cache of their making play on: images, their service, and a folder in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import mounts, server
from crashes.images import Image, load, make_account

MEMORY: Final = Path("/dev/shm")
"""Where the disks are made up: their content is thrown away at once."""

SCRIPTS: Final = Path(__file__).parents[1]
"""From where Python finds this package."""


@dataclass(frozen=True, slots=True)
class Stage:
    """*files*: where the content of each image is, by name. Every ``mount_every``th cache is mounted, 0 for none."""

    scratch: Path
    files: dict[str, Path]
    images: Sequence[Image]
    mount_every: int
    _service: server.Server | None

    def words(self) -> tuple[str, ...]:
        """The images, as a command of this package takes them."""
        return tuple(word for name, file in self.files.items() for word in (name, str(file)))

    def is_mounted(self, number: int) -> bool:
        """Whether the cache of this number is to be mounted."""
        return self.mount_every > 0 and number % self.mount_every == 0

    def wrong_through_mount(self, cache_dir: Path) -> list[str]:
        """Mount the cache and read every image; the names of those with wrong bytes. Raises whatever goes wrong."""
        assert self._service is not None
        with mounts.imagefs(self._service, self.scratch, cache_dir) as mount:
            return [
                image.name
                for image in self.images
                if (mount.images / image.name).read_bytes() != image.content
            ]


@contextmanager
def stage(mount_every: int) -> Iterator[Stage]:
    """Make everything; nothing is left of it."""
    with tempfile.TemporaryDirectory(prefix="imagefs-crash-", dir=MEMORY) as folder:
        scratch = Path(folder)
        files = make_account(scratch / "service")
        images = load(list(files.items()))
        with server.serving(scratch / "service", files) if mount_every else nullcontext() as service:
            yield Stage(scratch, files, images, mount_every, service)
