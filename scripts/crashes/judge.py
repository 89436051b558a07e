"""What a cache offers, compared with what the images have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from crashes.images import Image
from imagefs.errors import StoreError
from imagefs.store.blocks import block_range
from imagefs.store.directory import CacheDirectory


@dataclass(slots=True)
class Verdict:
    """What was found. ``blocks`` were offered; ``wrong`` names those with other bytes than the image's.

    A block counts as offered where the index claims it; as served where its sum is right as well, as a mount sees to
    before it delivers one.
    """

    blocks: int = 0
    wrong: list[str] = field(default_factory=list)
    served_wrong: list[str] = field(default_factory=list)


def judge(cache: CacheDirectory, images: Sequence[Image]) -> Verdict:
    """Read every block that *cache* claims to have. Raises what the cache raises but for a damaged file."""
    verdict = Verdict()
    for image in images:
        content = cache.content(image.key)
        try:
            for number, state in enumerate(bytes(content.present)):
                if not state:
                    continue
                verdict.blocks += 1
                start, end = block_range(number, len(image.content))
                try:
                    is_right = content.read(start, end - start) == image.block(number)
                    is_served = content.check_block(number)
                except StoreError:
                    continue
                if not is_right:
                    verdict.wrong.append(f"{image.name} block {number}")
                if not is_right and is_served:
                    verdict.served_wrong.append(f"{image.name} block {number}")
            for number in range(len(content.present)):
                if content.verified and content.sum_of(number) != image.sums(number, number + 1)[0]:
                    verdict.served_wrong.append(f"{image.name} sum {number}")
        finally:
            content.close()
    return verdict
