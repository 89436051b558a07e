"""The process that leaves a full cache behind, killed so that index and journal have logs beside them.

Arguments: the cache directory, and name and file of each image. Ends by SIGKILL.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Final

from crashes.images import Image, load
from imagefs.core.intents import Deletion, Intent
from imagefs.store.blocks import block_count
from imagefs.store.directory import CacheDirectory
from imagefs.store.journal import JournalTable

ACCOUNT: Final = "left over"
INTENTS: Final[dict[int, Intent]] = {number: Deletion(f"{number}") for number in range(1, 7)}
"""What the journal holds: half of it in the file, half in the log."""


def keep(cache: CacheDirectory, image: Image) -> None:
    """Bring a whole image into the cache."""
    content = cache.content(image.key)
    content.write_blocks(0, memoryview(image.content), image.sums(0, block_count(len(image.content))))
    content.mark_verified()
    content.close()


def main() -> None:
    """Run the process."""
    path, *words = sys.argv[1:]
    images = load([(name, Path(file)) for name, file in zip(words[::2], words[1::2], strict=True)])
    cache = _filled(Path(path), images[:2], range(1, 4))
    cache.close()
    _filled(Path(path), images[2:], range(4, 7))
    os.kill(os.getpid(), signal.SIGKILL)


def _filled(path: Path, images: list[Image], numbers: range) -> CacheDirectory:
    cache = CacheDirectory.open(path, owner="/left", max_bytes=1 << 30, min_free_bytes=0)
    for image in images:
        keep(cache, image)
    JournalTable(cache.journal, ACCOUNT).write({number: INTENTS[number] for number in numbers}, [])
    return cache


if __name__ == "__main__":
    main()
