"""Real disk images for the demo account, small enough to be made in a moment.

A bootable ISO 9660 by pycdlib, a partitioned disk with a filesystem by mkfs.ext4, and a qcow2 written here,
so that no other program is needed. Blocking.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from collections.abc import Mapping
from os import environ
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pycdlib

SECTOR_BYTES: Final = 512
PARTITION_START_BYTES: Final = 1 << 20
CLUSTER_BITS: Final = 16
CLUSTER_BYTES: Final = 1 << CLUSTER_BITS
QCOW2_COPIED: Final = 1 << 63
"""In a table entry: the cluster belongs to this image alone."""

_PRINT_AND_HALT: Final = bytes.fromhex(
    "31c0 8ed8"  # xor ax, ax; mov ds, ax
    "be 197c"  # mov si, the text below, where the BIOS loads this sector
    "ac 84c0 7409"  # lodsb; test al, al; jz halt
    "b40e bb0700 cd10 ebf2"  # mov ah, 0x0e; mov bx, 7; int 0x10; jmp lodsb
    "fa f4 ebfd"  # cli; halt: hlt; jmp halt
)


def boot_sector(text: str) -> bytes:
    """A sector that a BIOS boots: it prints *text* and halts."""
    code = _PRINT_AND_HALT + text.encode("ascii") + b"\r\n\0"
    return code.ljust(SECTOR_BYTES - 2, b"\0") + b"\x55\xaa"


def write_iso(path: Path, volume: str, files: Mapping[str, bytes]) -> None:
    """Write a bootable ISO 9660 with Rock Ridge and Joliet that holds *files*, given by their names."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=volume.upper().replace("-", "_")[:32])
    boot = boot_sector(f"{volume}: this is an image of the imagefs demo.").ljust(4 * SECTOR_BYTES, b"\0")
    for index, (name, content) in enumerate({"boot.img": boot, **files}.items()):
        short = f"/F{index:07}.;1" if index else "/BOOT.;1"
        iso.add_fp(io.BytesIO(content), len(content), short, rr_name=name, joliet_path=f"/{name}")
    iso.add_eltorito("/BOOT.;1", bootcatfile="/BOOT.CAT;1", boot_load_size=4)
    iso.write(str(path))
    iso.close()


def write_raw_disk(path: Path, size_bytes: int, files: Mapping[str, bytes]) -> None:
    """Write a sparse disk with an MBR and one partition that holds *files*, given by their names.

    The partition is ext4 where mkfs.ext4 is there, else ISO 9660: a real filesystem either way.
    """
    with path.open("wb") as disk:
        disk.truncate(size_bytes)
        disk.write(_partition_table(size_bytes))
    with TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        for name, content in files.items():
            (tree / name).write_bytes(content)
        mkfs = shutil.which("mkfs.ext4", path=f"{environ.get('PATH', '')}:/usr/sbin:/sbin")
        if mkfs is not None:
            _make_ext4(mkfs, path, tree, size_bytes - PARTITION_START_BYTES)
            return
        whole = Path(scratch) / "partition.iso"
        write_iso(whole, "DATA", files)
        with path.open("r+b") as disk:
            disk.seek(PARTITION_START_BYTES)
            disk.write(whole.read_bytes())


def _partition_table(size_bytes: int) -> bytes:
    """A boot sector with one active Linux partition from the first mebibyte to the end."""
    first = PARTITION_START_BYTES // SECTOR_BYTES
    count = size_bytes // SECTOR_BYTES - first
    # No cylinder, head and sector: the values that stand for "use the block addresses".
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", first, count)
    sector = bytearray(boot_sector("This is a disk of the imagefs demo."))
    sector[446 : 446 + len(entry)] = entry
    return bytes(sector)


def _make_ext4(mkfs: str, disk: Path, tree: Path, partition_bytes: int) -> None:
    subprocess.run(  # noqa: S603 - a program found by its name, with arguments of our own
        [
            mkfs,
            "-q",
            "-F",
            *("-L", "demo", "-b", "4096", "-O", "^has_journal"),
            *("-E", f"offset={PARTITION_START_BYTES},root_owner=0:0"),
            *("-d", str(tree)),
            str(disk),
            f"{partition_bytes // 1024}k",
        ],
        check=True,
        capture_output=True,
    )


def write_qcow2(path: Path, raw: Path) -> None:
    """Write the disk at *raw* as a qcow2, version 3, without its clusters of zeros.

    The layout is QEMU's docs/interop/qcow2.txt: header, refcount table and blocks, L1 table, L2 tables,
    then data.
    """
    size_bytes = raw.stat().st_size
    with raw.open("rb") as disk:
        blocks = iter(lambda: disk.read(CLUSTER_BYTES), b"")
        data = {index: block for index, block in enumerate(blocks) if block.strip(b"\0")}
    per_l2 = CLUSTER_BYTES // 8
    l2_count = -(-size_bytes // (CLUSTER_BYTES * per_l2))
    per_refcount_block = CLUSTER_BYTES // 2
    # One cluster each for the header, the refcount table and the L1 table.
    used = 3 + l2_count + len(data)
    refcount_blocks = 1
    while used + refcount_blocks > refcount_blocks * per_refcount_block:
        refcount_blocks += 1
    l1_at = 2 + refcount_blocks
    first_data = l1_at + 1 + l2_count
    host = {guest: first_data + position for position, guest in enumerate(data)}

    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        *(b"QFI\xfb", 3, 0, 0, CLUSTER_BITS, size_bytes, 0),
        *(l2_count, l1_at * CLUSTER_BYTES, CLUSTER_BYTES, 1, 0, 0),
        *(0, 0, 0, 4, 104),
    )
    refcount_table = struct.pack(
        f">{refcount_blocks}Q", *((2 + i) * CLUSTER_BYTES for i in range(refcount_blocks))
    )
    l1 = struct.pack(
        f">{l2_count}Q", *((l1_at + 1 + i) * CLUSTER_BYTES | QCOW2_COPIED for i in range(l2_count))
    )
    l2 = b"".join(
        struct.pack(">Q", host[guest] * CLUSTER_BYTES | QCOW2_COPIED if guest in host else 0)
        for guest in range(l2_count * per_l2)
    )
    with path.open("wb") as file:
        for part in (
            header.ljust(CLUSTER_BYTES, b"\0"),
            refcount_table.ljust(CLUSTER_BYTES, b"\0"),
            (struct.pack(">H", 1) * (used + refcount_blocks)).ljust(refcount_blocks * CLUSTER_BYTES, b"\0"),
            l1.ljust(CLUSTER_BYTES, b"\0"),
            l2,
            *(block.ljust(CLUSTER_BYTES, b"\0") for block in data.values()),
        ):
            file.write(part)
