"""The process whose writes are recorded: a cache that is opened, filled, evicted from, and closed, again and again.

Arguments: the cache directory, a seed, and name and file of each image. It tells on standard error, as `MARK`, when a
change of the journal begins and when it is acknowledged.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from crashes.images import Image, load
from imagefs.core.intents import Deletion, Intent
from imagefs.errors import CacheFull
from imagefs.store.blocks import block_count
from imagefs.store.directory import CacheDirectory
from imagefs.store.journal import JournalTable

MARK: Final = "journal"
ACCOUNT: Final = "recorded"
"""Not the account that a mount of the cache is of: what the journal holds is never carried out."""

MAX_BYTES: Final = 3 << 20
SESSIONS: Final = 3
CONTENT_STEPS: Final = 14
JOURNAL_STEPS: Final = 12


def intents_after(step: int) -> dict[int, Intent]:
    """What the journal holds after *step* changes: each adds one intent and removes the one before the last two."""
    return {number: Deletion(f"{number}") for number in range(max(1, step - 2), step + 1)}


def change_journal(cache: CacheDirectory, first: int) -> None:
    """Make the changes from *first* on, with a mark before and after each."""
    journal = JournalTable(cache.journal, ACCOUNT)
    for step in range(first, first + JOURNAL_STEPS):
        _mark(f"begins {step}")
        journal.write({step: Deletion(f"{step}")}, [step - 3])
        _mark(f"done {step}")


def _mark(text: str) -> None:
    sys.stderr.write(f"{MARK} {text}\n")  # unbuffered: one write(2)
    sys.stderr.flush()


def change_contents(cache: CacheDirectory, images: Sequence[Image], chance: random.Random) -> None:
    """Write, flush, verify, forget, drop, pin and close contents, as it comes."""
    for _ in range(CONTENT_STEPS):
        image = chance.choice(images)
        blocks = block_count(len(image.content))
        content = cache.content(image.key)
        for _ in range(chance.randrange(1, 4)):
            first = chance.randrange(blocks)
            end = min(blocks, first + chance.randrange(1, 6))
            data = b"".join(image.block(number) for number in range(first, end))
            with suppress(CacheFull):
                content.write_blocks(first, memoryview(data), image.sums(first, end))
            if chance.random() < 0.5:
                content.flush()
            if chance.random() < 0.1:
                content.forget_blocks([chance.randrange(blocks)])
        if all(content.sum_of(number) is not None for number in range(blocks)):
            content.mark_verified()
        if chance.random() < 0.05:
            content.drop()
        content.close()


def main() -> None:
    """Run the process."""
    path, seed, *words = sys.argv[1:]
    images = load([(name, Path(file)) for name, file in zip(words[::2], words[1::2], strict=True)])
    for session in range(SESSIONS):
        cache = CacheDirectory.open(Path(path), owner="/recorded", max_bytes=MAX_BYTES, min_free_bytes=0)
        threads = [
            threading.Thread(
                target=change_contents, args=(cache, images, random.Random(f"{seed} {session} {one}"))
            )
            for one in range(2)
        ]
        threads.append(threading.Thread(target=change_journal, args=(cache, 1 + session * JOURNAL_STEPS)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cache.close()


if __name__ == "__main__":
    main()
