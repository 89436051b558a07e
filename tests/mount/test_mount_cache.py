"""The cache seen through a mount: every byte is fetched once, and what is cached is never wrong."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from mount_programs import MYSELF, attempt, eventually, run, text

MIB = 1 << 20
SIZE = 8 * MIB + 999


@pytest.fixture
def image_id(service):
    """An image of some mebibytes."""
    return service.add_synthetic("a", "toronto", SIZE)


@pytest.fixture
def content(service, image_id):
    """Its bytes."""
    return service.content(image_id).read_bytes()


def _cached_files(mounted):
    return [path for path in (mounted.cache_dir / "content").rglob("*") if path.is_file()]


def test_a_second_read_fetches_nothing(service, mount, image_id, content):
    """Neither after the kernel forgot the pages, nor after a remount."""
    mounted = mount()
    file = mounted / "toronto/a"
    assert run("cat", file) == content
    fetched = service.ledger.bytes_retrieved()
    assert fetched <= 1.02 * SIZE

    mounted.drop_pages(file)
    assert run("cat", file) == content
    mounted.remount()
    assert run("cat", file) == content
    assert mounted.xattr(file, "cached") == str(SIZE)
    assert service.ledger.bytes_retrieved() == fetched


def test_a_part_that_was_read_is_kept(service, mount, image_id, content):
    """What was read of an image that nobody read to the end is not fetched again either."""
    mounted = mount()
    file = mounted / "toronto/a"
    run("head", "-c", f"{5 * MIB}", file)
    mounted.remount()
    fetched = service.ledger.bytes_retrieved()
    assert run("head", "-c", f"{MIB}", file) == content[:MIB]
    assert service.ledger.bytes_retrieved() == fetched


def test_many_readers_share_one_transfer(service, mount, image_id, content):
    """Programs that read one cold image at the same time cost it once."""
    service.switches.rate_bytes_per_s = 16 * MIB
    mounted = mount()
    with ThreadPoolExecutor(8) as pool:
        for copy in pool.map(lambda _: run("cat", mounted / "toronto/a"), range(8)):
            assert copy == content
    assert service.ledger.bytes_retrieved() <= 1.02 * SIZE


def test_readers_at_different_places_share_too(service, mount, image_id, content):
    """One from the start, one from the middle and one from the end cost the image once."""
    service.switches.rate_bytes_per_s = 16 * MIB
    file = mount() / "toronto/a"
    starts = (1, SIZE // 3, SIZE // 2, SIZE - MIB)
    with ThreadPoolExecutor(len(starts)) as pool:
        parts = list(pool.map(lambda start: run("tail", "-c", f"+{start}", file), starts))
    assert parts == [content[start - 1 :] for start in starts]
    assert service.ledger.bytes_retrieved() <= 1.02 * SIZE


def test_replicas_share_one_copy(service, mount, image_id, content):
    """The same content in another region is not fetched again."""
    service.add_image("b", "montreal", content)
    mounted = mount()
    assert run("cat", mounted / "toronto/a") == content
    fetched = service.ledger.bytes_retrieved()
    assert run("cat", mounted / "montreal/b") == content
    assert service.ledger.bytes_retrieved() == fetched
    assert len(_cached_files(mounted)) == 1


def test_a_killed_mount_leaves_a_cache_that_is_used(service, mount, image_id, content):
    """After kill -9 the next mount clears the dead one away and fetches nothing again that had become durable."""
    mounted = mount()
    file = mounted / "toronto/a"
    run("cat", file)
    mounted.remount()  # makes all of it durable
    run("cat", file)
    fetched = service.ledger.bytes_retrieved()
    mounted.kill()
    assert "not connected" in attempt("ls", mounted.path).stderr.decode()
    mounted.mount()
    assert run("cat", file) == content
    assert service.ledger.bytes_retrieved() == fetched


def test_killed_in_the_middle_of_a_transfer(service, mount, image_id, content):
    """Whatever was half written when the process died, the next reader gets the right bytes."""
    service.switches.rate_bytes_per_s = 8 * MIB
    mounted = mount()
    command = ["cat", str(mounted / "toronto/a")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as reader:
        eventually(lambda: service.ledger.bytes_retrieved() > 2 * MIB)
        mounted.kill()
        reader.wait(20)
    service.switches.rate_bytes_per_s = None
    mounted.mount()
    assert run("cat", mounted / "toronto/a") == content


@pytest.mark.parametrize("offset", [0, SIZE // 2, SIZE - 1])
def test_damaged_cached_bytes_are_fetched_again(service, mount, image_id, content, offset):
    """A byte that changed on the disk is noticed when a mount first reads it."""
    mounted = mount()
    mounted.may_log("cached blocks of image .* are damaged")
    run("cat", mounted / "toronto/a")
    mounted.umount()
    (file,) = _cached_files(mounted)
    with file.open("r+b") as damaged:
        damaged.seek(offset)
        damaged.write(bytes([content[offset] ^ 1]))
    fetched = service.ledger.bytes_retrieved()
    mounted.mount()
    assert run("cat", mounted / "toronto/a") == content
    assert 0 < service.ledger.bytes_retrieved() - fetched <= 2 * MIB


def test_truncated_cached_files_are_fetched_again(service, mount, image_id, content):
    """A file that lost its end is not served as it is."""
    mounted = mount()
    mounted.may_log("damaged|cannot be read")
    run("cat", mounted / "toronto/a")
    mounted.umount()
    os.truncate(*_cached_files(mounted), 1000)
    mounted.mount()
    assert run("cat", mounted / "toronto/a") == content


@pytest.mark.parametrize("damage", [b"no database at all", b""])
def test_a_damaged_index_is_begun_anew(service, mount, image_id, content, damage):
    """Without a trustworthy index nothing cached is served, and the mount works as the first one did."""
    mounted = mount()
    mounted.may_log("index was damaged")
    run("cat", mounted / "toronto/a")
    mounted.umount()
    (mounted.cache_dir / "index").write_bytes(damage)
    mounted.mount()
    assert run("cat", mounted / "toronto/a") == content
    mounted.remount()
    assert run("cat", mounted / "toronto/a") == content
    assert service.ledger.bytes_retrieved() <= 2.04 * SIZE


def test_a_lost_cache_is_no_loss(service, mount, image_id, content):
    """Removing the cache between two mounts costs time and nothing else."""
    mounted = mount()
    run("cat", mounted / "toronto/a")
    mounted.umount()
    run("rm", "-r", mounted.cache_dir)
    mounted.mount()
    assert run("cat", mounted / "toronto/a") == content


def test_the_cache_stays_within_its_size(service, mount):
    """Images beyond the size that was asked for are read right, and the oldest go."""
    ids = {name: service.add_synthetic(name, "toronto", 12 * MIB, seed=ord(name)) for name in "abcd"}
    mounted = mount("--cache-size", "16M")
    for name, image_id in ids.items():
        assert run("cat", mounted / "toronto" / name) == service.content(image_id).read_bytes()
    mounted.umount()
    assert sum(file.stat().st_blocks * 512 for file in _cached_files(mounted)) <= 17 * MIB


def test_an_image_larger_than_the_cache_is_read(service, mount):
    """An image that does not fit is still copied whole."""
    image_id = service.add_synthetic("a", "toronto", 64 * MIB)
    mounted = mount("--cache-size", "16M")
    mounted.may_log("The cache takes no more")
    assert run("cat", mounted / "toronto/a") == service.content(image_id).read_bytes()


@pytest.mark.root
@pytest.mark.parametrize("megabytes", [4, 16])
@pytest.mark.parametrize("ranged", [True, False], ids=["range", "no range"])
def test_a_full_cache_disk_does_not_matter(service, prepare, tmp_path, megabytes, ranged):
    """On a disk much smaller than the image, the image is read right."""
    service.switches.range = ranged
    image_id = service.add_synthetic("a", "toronto", 64 * MIB)
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", disk)
    try:
        mounted = prepare(cache_dir=disk / "cache")
        mounted.may_log("cache")
        mounted.mount()
        assert run("cat", mounted / "toronto/a") == service.content(image_id).read_bytes()
        mounted.umount()
    finally:
        run("umount", "--lazy", disk)


def test_the_cache_is_private(service, prepare, image_id):
    """Whatever the umask, nobody else can look into the cache or the log."""
    mounted = prepare()
    command = ("sh", "-c", 'umask 000; exec "$0" "$@"', *mounted.foreground_command[:-1])
    assert attempt(*command, person=MYSELF).returncode == 0
    run("cat", mounted / "toronto/a")
    mounted.umount()
    for path in (mounted.cache_dir, mounted.log_file, *mounted.cache_dir.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_two_mounts_cannot_share_a_cache(service, mount, prepare):
    """The second says who has it, and leaves the first alone."""
    first = mount()
    second = prepare(name="b", cache_dir=first.cache_dir)
    second.may_log("is in use by")
    done = second.try_mount()
    assert done.returncode == 1
    assert f"in use by the mount at {first.path} (process {first.pid})" in done.stderr.decode()
    assert not second.is_mounted
    assert text("ls", first.path)


def test_two_mounts_with_their_own_caches_work_together(service, mount, image_id, content):
    """One account can be mounted twice."""
    first, second = mount(), mount(name="b")
    assert run("cat", first / "toronto/a") == run("cat", second / "toronto/a") == content


def test_an_idle_stream_does_not_go_on(service, mount):
    """When the reader is gone, the transfer ends long before the image does."""
    service.switches.rate_bytes_per_s = 4 * MIB
    service.add_synthetic("a", "toronto", 64 * MIB)
    mounted = mount()
    run("head", "-c", f"{2 * MIB}", mounted / "toronto/a")
    eventually(lambda: _has_stopped(service.ledger))
    assert service.ledger.bytes_retrieved() <= 16 * MIB


def _has_stopped(ledger):
    before = ledger.bytes_retrieved()
    time.sleep(0.2)
    return ledger.bytes_retrieved() == before
