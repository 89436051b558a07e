"""Which of the service's formats a content has, by its first bytes. Pure; any thread.

Sources: the qcow2 header (QEMU, docs/interop/qcow2.txt) and the volume descriptors of ECMA-119 (6.2.1, 8.1).
"""

from __future__ import annotations

import struct
from typing import Final

from imagefs.errors import NotSupported

HEAD_BYTES: Final = 64 << 10
"""How much of the beginning of a content is enough to tell its format."""

_QCOW2_MAGIC: Final = b"QFI\xfb"
_QCOW2_HEADER: Final = struct.Struct(">4sIQ")  # magic, version, offset of the backing file's name
_QCOW2_L1: Final = struct.Struct(">IQ")  # number of entries, where they are
_QCOW2_L1_AT: Final = 36
_QCOW2_L1_ENTRY_BYTES: Final = 8
_QCOW2_FEATURES: Final = struct.Struct(">Q")
_QCOW2_FEATURES_AT: Final = 72
_QCOW2_EXTERNAL_DATA: Final = 1 << 2
_ISO_DESCRIPTORS_AT: Final = 16 * 2048
_ISO_IDENTIFIERS: Final = (b"CD001", b"BEA01")  # ISO 9660; UDF without it (ECMA-167, 2/9.2)


def image_format(head: bytes, name: str) -> str:
    """``qcow2`` or ``iso`` for a content that begins with *head* (`HEAD_BYTES`, or all of it) and is called *name*.

    Raises NotSupported for content that the service could not use.
    """
    if head.startswith(_QCOW2_MAGIC):
        _check_qcow2(head, name)
        return "qcow2"
    descriptor = head[_ISO_DESCRIPTORS_AT + 1 : _ISO_DESCRIPTORS_AT + 6]
    if descriptor in _ISO_IDENTIFIERS:
        return "iso"
    raise NotSupported(
        f"{name!r} is neither an ISO nor a qcow2 image, and the service takes no other; a raw disk becomes one with"
        " qemu-img convert -O qcow2."
    )


def qcow2_l1_table(head: bytes) -> tuple[int, int] | None:
    """The place of a qcow2 image's L1 table, as (offset, length) in bytes; None for any other format.

    That table leads to all data. While it holds only zeros, nothing was written to the disk.
    """
    if not head.startswith(_QCOW2_MAGIC) or len(head) < _QCOW2_L1_AT + _QCOW2_L1.size:
        return None
    entries, offset = _QCOW2_L1.unpack_from(head, _QCOW2_L1_AT)
    return offset, entries * _QCOW2_L1_ENTRY_BYTES


def _check_qcow2(head: bytes, name: str) -> None:
    """Raise NotSupported where part of the disk's content is in another file."""
    if len(head) < _QCOW2_HEADER.size:
        raise NotSupported(f"{name!r} is cut off inside its qcow2 header.")
    _, version, backing_at = _QCOW2_HEADER.unpack_from(head)
    features = 0
    if version >= 3 and len(head) >= _QCOW2_FEATURES_AT + _QCOW2_FEATURES.size:
        (features,) = _QCOW2_FEATURES.unpack_from(head, _QCOW2_FEATURES_AT)
    if backing_at or features & _QCOW2_EXTERNAL_DATA:
        raise NotSupported(
            f"{name!r} needs another file, which the service does not have: qemu-img convert -O qcow2 makes one that"
            " stands alone."
        )
