"""Programs that read whatever they find, though nobody asked them to: desktop searches and thumbnailers.

Used by the tree, which denies them the content of images: it would cost traffic, and push out of the cache what
somebody reads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

_NAME_LENGTH: Final = 15
"""What the kernel keeps of a program's name (TASK_COMM_LEN, less the NUL that ends it)."""

INDEXERS: Final = frozenset(
    name[:_NAME_LENGTH]
    for name in (
        "baloo_file",  # KDE
        "baloo_file_extractor",
        "baloo_filemetadata_temp_extractor",
        "evince-thumbnailer",
        "ffmpegthumbnailer",
        "gdk-pixbuf-thumbnailer",
        "glycin-thumbnailer",
        "gnome-thumbnail-font",
        "gsf-office-thumbnailer",
        "localsearch-3",  # GNOME, from 47 on
        "localsearch-extractor-3",
        "recollindex",
        "totem-video-thumbnailer",
        "tracker-extract-3",  # GNOME before that
        "tracker-miner-fs-3",
        "tumblerd",  # Xfce
    )
)
"""The names of their processes, as the kernel has them."""


def indexer_among(programs: Iterable[str], indexers: Collection[str]) -> str | None:
    """The first of *programs*, the names of a process and of those that started it, that is one of *indexers*."""
    return next((name for name in programs if name in indexers), None) if indexers else None
