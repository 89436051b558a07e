"""This machine fails: system calls, descriptors, threads of the mount. Readers get the right bytes or an error."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mount_point import Mounted
from mount_programs import attempt, eventually, run

from imagefs.emulator import Emulator

MIB = 1 << 20
SIZE = 3 * MIB + 777

CACHE_CALLS = {
    "no space": ("pwrite64", "ENOSPC"),
    "writes fail": ("pwrite64", "EIO"),
    "reads fail": ("preadv,preadv2,pread64", "EIO"),
    "syncs fail": ("fdatasync,fsync", "EIO"),
    "read-only": ("pwrite64,ftruncate,fallocate", "EROFS"),
}
"""System calls that are made for the cache only, and how they fail."""


@contextmanager
def failing(mounted: Mounted, calls: str, error: str, log: Path) -> Iterator[None]:
    """While the block runs, *calls* of the mount's process fail, of all of its threads; at least one has to."""
    command = ["strace", "-f", "-qq", "-p", str(mounted.pid), "-o", str(log)]
    command += ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            eventually(lambda: _all_traced(mounted.pid, process.pid), within_s=60)
            yield
        finally:
            process.terminate()
            process.wait(60)
    assert "(INJECTED)" in log.read_text(errors="replace")


def _all_traced(pid: int, tracer: int) -> bool:
    statuses = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    return all(f"TracerPid:\t{tracer}\n" in status for status in statuses)


def eight_images(service: Emulator) -> dict[str, bytes]:
    """The contents of eight small images in toronto, by name."""
    ids = [service.add_synthetic(f"image-{seed}", "toronto", 300_000, seed=seed) for seed in range(8)]
    return {service.image(image_id).name: service.content(image_id).read_bytes() for image_id in ids}


def read_at_once(mounted: Mounted, contents: dict[str, bytes]) -> None:
    """Read all images side by side: each reader gets the right bytes, or an error; nobody hangs."""
    readers = {
        name: subprocess.Popen(
            ["cat", str(mounted / "toronto" / name)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for name in contents
    }
    for name, reader in readers.items():
        copied = reader.communicate(timeout=100)[0]
        assert reader.returncode != 0 or copied == contents[name]


def read_all(mounted: Mounted, contents: dict[str, bytes]) -> None:
    """Before long, each image can be read: errors are remembered for a few seconds."""
    for name, content in contents.items():
        file = mounted / "toronto" / name
        eventually(lambda file=file: attempt("cat", file).returncode == 0, within_s=60)
        assert run("cat", file) == content


@pytest.mark.root
@pytest.mark.parametrize(("calls", "error"), CACHE_CALLS.values(), ids=CACHE_CALLS)
def test_a_cache_that_fails_costs_nobody_a_byte(service, mount, tmp_path, calls, error):
    """The reader is served from the network, and nothing wrong is kept."""
    image_id = service.add_synthetic("a", "toronto", SIZE)
    content = service.content(image_id).read_bytes()
    mounted = mount()
    mounted.may_log(".")
    file = mounted / "toronto/a"
    if calls.startswith("pread"):
        run("cat", file)
        mounted.drop_pages(file)
    with failing(mounted, calls, error, tmp_path / "strace"):
        assert run("cat", file) == content
        if "sync" in calls:
            mounted.imagefs("umount", mounted.path)
    if mounted.is_mounted:
        mounted.umount()
    assert mounted.ended()
    mounted.mount()
    assert run("cat", file) == content


@pytest.mark.root
def test_without_threads_calls_fail_and_the_mount_lives_on(service, mount, tmp_path):
    """A call that needs a thread that cannot be started is an error, and the next ones are served."""
    contents = eight_images(service)
    mounted = mount()
    mounted.may_log(".")
    with failing(mounted, "clone,clone3", "EAGAIN", tmp_path / "strace"):
        read_at_once(mounted, contents)
    read_all(mounted, contents)


@pytest.mark.root
def test_without_descriptors_calls_fail_and_the_mount_lives_on(service, mount):
    """With hardly a descriptor left, a reader gets the right bytes or an error; with more again, all is well."""
    contents = eight_images(service)
    mounted = mount()
    mounted.may_log(".")
    run("ls", mounted / "toronto")
    pid = mounted.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    fewer = len(list(Path(f"/proc/{pid}/fd").iterdir())) + 2
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (fewer, before[1]))
    read_at_once(mounted, contents)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    read_all(mounted, contents)
