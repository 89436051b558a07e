"""An account with real images in three regions, for the demo and for trying things out.

Used by ``imagefs emulator --demo`` and ``imagefs demo``, on their main thread. What was built is kept in
the data directory; a person's changes to it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from imagefs.emulator.disks import write_iso, write_qcow2, write_raw_disk
from imagefs.emulator.service import Emulator

LARGE_BYTES: Final = 256 << 20
DISK_BYTES: Final = 48 << 20

_README: Final = (
    b"This is an image of the imagefs demo. Everything in it can be read; nothing in it matters.\n"
)
_NUMBERS: Final = b"".join(b"%d\n" % number for number in range(200_000))
_FILES: Final = {"README.txt": _README, "numbers.txt": _NUMBERS}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One image of the demo, whose content is a file made by one of the ``_SOURCES``."""

    image_id: str
    name: str
    region: str
    source: str
    disk_format: str
    time_created: str
    public: bool = False
    status: str = "active"


_ARCH: Final = "Arch Linux 2017-02-23 64-bit (ISO)"

_IMAGES: Final = (
    _Wanted(
        "5021",
        "Debian 9 64-bit (template)",
        "toronto",
        "template.qcow2",
        "qcow2",
        "2018-11-10T16:02:11",
        True,
    ),
    _Wanted(
        "5022",
        "Debian 9 64-bit (template)",
        "roubaix",
        "template.qcow2",
        "qcow2",
        "2018-11-10T16:05:43",
        True,
    ),
    _Wanted("84473", _ARCH, "toronto", "arch-1.iso", "iso", "2017-02-23T09:14:00", True),
    _Wanted("84476", _ARCH, "toronto", "arch-2.iso", "iso", "2017-02-23T09:31:27", True),
    _Wanted("141119", "rescue.iso", "toronto", "rescue.iso", "iso", "2018-12-17T00:23:09"),
    _Wanted("141120", "rescue.iso", "montreal", "rescue.iso", "iso", "2018-12-17T00:31:50"),
    _Wanted("141121", "server.img", "toronto", "server.img", "raw", "2019-03-02T18:40:05"),
    _Wanted("141122", "server.qcow2", "montreal", "server.qcow2", "qcow2", "2019-03-02T19:01:33"),
    _Wanted("141123", "Größe/版本 1.0 🐧.iso", "montreal", "rescue.iso", "iso", "2020-02-29T12:00:00"),
    _Wanted(
        "141125",
        "being-saved.qcow2",
        "roubaix",
        "server.qcow2",
        "qcow2",
        "2021-07-04T07:07:07",
        status="saving",
    ),
)
_LARGE_ID: Final = "141124"

_SOURCES: Final[Mapping[str, Callable[[Path], None]]] = {
    "rescue.iso": partial(write_iso, volume="RESCUE", files=_FILES),
    "arch-1.iso": partial(write_iso, volume="ARCH_201702", files={"README.txt": _README + b"First build.\n"}),
    "arch-2.iso": partial(
        write_iso, volume="ARCH_201702", files={"README.txt": _README + b"Second build.\n"}
    ),
    "server.img": partial(write_raw_disk, size_bytes=DISK_BYTES, files=_FILES),
    "server.qcow2": lambda path: write_qcow2(path, path.parent / "server.img"),
    "template.img": partial(write_raw_disk, size_bytes=DISK_BYTES // 2, files={"README.txt": _README}),
    "template.qcow2": lambda path: write_qcow2(path, path.parent / "template.img"),
}
"""Contents by file name, in an order in which each finds those that it is made from."""


def build(emulator: Emulator) -> None:
    """Fill *emulator*'s account, unless that was done before; an interrupted build is completed."""
    done = emulator.data_dir / "demo-complete"
    if done.exists():
        return
    there = {image.image_id for image in emulator.images()}
    with TemporaryDirectory(dir=emulator.data_dir) as scratch:
        for source, write in _SOURCES.items():
            write(Path(scratch) / source)
        for wanted in _IMAGES:
            if wanted.image_id not in there:
                _add(emulator, wanted, Path(scratch) / wanted.source)
    if _LARGE_ID not in there:
        created = "2020-06-01T10:20:30.000000"
        emulator.add_synthetic(
            "large.img",
            "roubaix",
            LARGE_BYTES,
            seed=1,
            image_id=_LARGE_ID,
            disk_format="raw",
            time_created=created,
        )
    done.touch()


def write_fetchable(path: Path) -> None:
    """Make an image that is not in the account, for the service to download."""
    write_iso(path, volume="TOOLS", files={"README.txt": _README + b"It was fetched.\n"})


def _add(emulator: Emulator, wanted: _Wanted, content: Path) -> None:
    emulator.add_image(
        wanted.name,
        wanted.region,
        content,
        status=wanted.status,
        disk_format=wanted.disk_format,
        public=wanted.public,
        image_id=wanted.image_id,
        time_created=f"{wanted.time_created}.000000",
    )
