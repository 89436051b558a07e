"""Every kind of server that the service may be: with and without Range, and each way to end a content."""

from __future__ import annotations

import os

import pytest
from mount_programs import eventually, refusal, run

from imagefs.emulator import Fault

MIB = 1 << 20
SIZE = 9 * MIB + 4321

KINDS = [
    pytest.param(ranged, framing, id=f"{'range' if ranged else 'no range'}, {framing}")
    for ranged in (True, False)
    for framing in ("length", "chunked", "close")
]


@pytest.mark.parametrize(("ranged", "framing"), KINDS)
def test_the_whole_content_is_right(service, mount, ranged, framing):
    """Front to back, sizes from nothing to several mebibytes."""
    service.switches.turn({"range": ranged, "framing": framing})
    sizes = (0, 1, 4096, 4097, 131072, 131073, SIZE)
    images = {f"{size}": service.add_synthetic(f"{size}", "toronto", size, seed=size) for size in sizes}
    region = mount() / "toronto"
    for name, image_id in images.items():
        assert run("cat", region / name) == service.content(image_id).read_bytes()


@pytest.mark.parametrize(("ranged", "framing"), KINDS)
def test_any_order_is_right(service, mount, ranged, framing):
    """The end first, then the middle, then parts that overlap both."""
    service.switches.turn({"range": ranged, "framing": framing})
    image_id = service.add_synthetic("a", "toronto", SIZE)
    content = service.content(image_id).read_bytes()
    mounted = mount()
    descriptor = os.open(mounted / "toronto/a", os.O_RDONLY)
    try:
        for offset in (SIZE - 100, SIZE // 2, 0, SIZE // 3, SIZE - 3 * MIB, 1):
            assert os.pread(descriptor, 50_000, offset) == content[offset : offset + 50_000]
    finally:
        os.close(descriptor)
    assert run("cat", mounted / "toronto/a") == content


@pytest.mark.parametrize("first", [True, False])
def test_range_can_come_and_go_while_mounted(service, mount, first):
    """What the server can do is learned again whenever it changes."""
    service.switches.range = first
    ids = [service.add_synthetic(f"{n}", "toronto", SIZE, seed=n) for n in range(4)]
    region = mount() / "toronto"
    for name, image_id in enumerate(ids):
        content = service.content(image_id).read_bytes()
        run("head", "-c", "100", region / f"{name}")
        service.switches.range = not service.switches.range
        assert run("tail", "-c", "3000000", region / f"{name}") == content[-3_000_000:]
        assert run("cat", region / f"{name}") == content


def test_without_range_a_stream_fetches_each_byte_once(service, mount):
    """One stream from the front serves a whole sequential read, and the header is not fetched twice."""
    service.switches.range = False
    image_id = service.add_synthetic("a", "toronto", 32 * MIB)
    mounted = mount()
    assert run("cat", mounted / "toronto/a") == service.content(image_id).read_bytes()
    assert service.ledger.bytes_retrieved() <= 1.02 * 32 * MIB


def test_a_slow_server_is_read_in_parallel(service, mount):
    """Each connection is slow, so a sequential reader is fed by several."""
    service.switches.rate_bytes_per_s = 4 * MIB
    image_id = service.add_synthetic("a", "toronto", 24 * MIB)
    mounted = mount()
    assert run("cat", mounted / "toronto/a") == service.content(image_id).read_bytes()
    assert service.ledger.count("retrieve") > 4
    assert service.ledger.bytes_retrieved() <= 1.02 * 24 * MIB


def test_answers_that_are_compressed_unasked_are_understood(service, mount):
    """All but content, which has to arrive as it is: that is refused, and says why."""
    image_id = service.add_synthetic("a", "toronto", 3 * MIB)
    service.add_image("c", "roubaix", b"content")
    service.switches.saving_s = 0.1
    for action in ("list", "details", "replicate", "rename", "delete"):
        service.faults.add(Fault("gzip", action, times=None))
    mounted = mount()
    mounted.may_log("encoded as gzip")
    assert run("cat", mounted / "toronto/a") == service.content(image_id).read_bytes()
    run("mv", mounted / "toronto/a", mounted / "montreal/b")
    run("sync", mounted / "montreal/b")
    eventually(lambda: [image.name for image in service.images()] == ["c", "b"])
    service.faults.add(Fault("gzip", "retrieve", times=None))
    refusal("head", "-c", "1", mounted / "roubaix/c")
    assert "encoded as gzip" in mounted.xattr(mounted / "roubaix/c", "error")
