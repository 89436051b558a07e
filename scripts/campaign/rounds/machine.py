"""Rounds in which the mount's process is killed, stopped, limited, and its system calls fail."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Sequence
from typing import Final

from campaign.injection import Injection, injected
from campaign.readers import Witness
from campaign.scene import Scene, readings
from campaign.subjects import KIB, Subject, Subjects

CACHE_CALLS: Final = (
    Injection("pwrite64", "ENOSPC"),
    Injection("pwrite64", "EIO"),
    Injection("pwrite64", "EDQUOT"),
    Injection("fdatasync,fsync", "EIO", every=2),
    Injection("preadv,preadv2,pread64", "EIO", every=4),
    Injection("ftruncate", "EIO", every=2),
)
"""Calls that the mount makes for its cache only: a reader never notices that they fail."""

OTHER_CALLS: Final = (
    Injection("openat", "EMFILE"),
    Injection("socket", "EMFILE"),
    Injection("clone,clone3", "EAGAIN", every=2),
    Injection("connect", "ENETUNREACH", every=2),
    Injection("epoll_wait,poll,ppoll", "EINTR", every=4),
    Injection("recvfrom", "EINTR", every=3),
)
"""Calls whose failure a reader may get as an error; the mount lives on. Resets are the proxy's: the mount's loop wakes
itself by a pair of sockets, which no network can reset, and strace would."""

KILL_KINDS: Final = ("machine: SIGKILL during reads",)
STOP_KINDS: Final = ("machine: SIGSTOP",)
LIMIT_KINDS: Final = ("machine: few descriptors", "machine: little memory")
CALL_KINDS: Final = tuple(injection.kind for injection in (*CACHE_CALLS, *OTHER_CALLS))

SPARE_DESCRIPTORS: Final = 3
SPARE_BYTES: Final = 12 * 1024 * KIB
"""Of address space: too little for the stacks of two threads."""
IMAGES_A_LIMIT: Final = 12
CALLS_A_ROUND: Final = 4
IMAGES_A_CALL: Final = 4


def images(subjects: Subjects, rng: random.Random) -> list[Subject]:
    """A few to read."""
    return subjects.make_some(rng, 8, 6)


def many_images(subjects: Subjects, rng: random.Random) -> list[Subject]:
    """For each limit so many small ones that they take more descriptors than there are."""
    return subjects.make_some(rng, len(LIMIT_KINDS) * IMAGES_A_LIMIT, 2)


def run_killed(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """kill -9 while images are read; the next mount serves only what is right."""
    scene.emulator.switches.turn({"rate_bytes_per_s": 2048 * KIB, "range": rng.random() < 0.5})

    def kill(pause_s: float) -> None:
        time.sleep(pause_s)
        scene.daemon.send(signal.SIGKILL)

    killer = threading.Thread(target=kill, args=(rng.uniform(0.0, 1.0),))
    killer.start()
    scene.read_together(readings(rng, images))
    killer.join()
    scene.daemon.clear_away()
    scene.tally.strike(KILL_KINDS[0])
    scene.tally.figures["SIGKILLs"] += 1
    scene.mount()
    scene.peace()
    scene.must_read(images, "the next mount works")


def run_stopped(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """The process stands still for a while, as after a suspend."""
    scene.emulator.switches.turn({"rate_bytes_per_s": 1024 * KIB})

    def stop(own: random.Random) -> None:
        for _ in range(own.randint(2, 4)):
            time.sleep(own.uniform(0.05, 0.3))
            scene.daemon.send(signal.SIGSTOP)
            time.sleep(own.uniform(0.1, 1.0))
            scene.daemon.send(signal.SIGCONT)
            scene.tally.strike(STOP_KINDS[0])

    stopper = threading.Thread(target=stop, args=(random.Random(rng.random()),))
    stopper.start()
    scene.read_together(readings(rng, images), extra_s=10.0)
    stopper.join()
    scene.peace()
    scene.must_read(images, "faults pass")


def run_limited(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """Hardly a descriptor is left, then hardly any memory: calls fail, and all is well when there is more again."""
    fewer = scene.daemon.vitals().descriptors + rng.randint(0, SPARE_DESCRIPTORS)
    _read_limited(scene, rng, images[:IMAGES_A_LIMIT], LIMIT_KINDS[0], resource.RLIMIT_NOFILE, fewer)
    less = scene.daemon.address_space_bytes + rng.randint(0, SPARE_BYTES)
    _read_limited(scene, rng, images[IMAGES_A_LIMIT:], LIMIT_KINDS[1], resource.RLIMIT_AS, less)


def _read_limited(
    scene: Scene, rng: random.Random, images: Sequence[Subject], kind: str, limit: int, most: int
) -> None:
    """Read *images* while the mount's process may have no more than *most* of what *limit* counts (getrlimit(2))."""
    before = resource.prlimit(scene.daemon.pid, limit)
    resource.prlimit(scene.daemon.pid, limit, (most, before[1]))
    try:
        witnesses = scene.read_together(readings(rng, images))
    finally:
        if scene.daemon.is_alive:
            resource.prlimit(scene.daemon.pid, limit, before)
    scene.tally.strike(kind, max(1, sum(witness.error is not None for witness in witnesses)))
    scene.ensure_alive()
    scene.must_read(images, "the mount lives on")


def call_images(subjects: Subjects, rng: random.Random) -> list[Subject]:
    """Some for each kind of system call."""
    return subjects.make_some(rng, CALLS_A_ROUND * IMAGES_A_CALL, 4)


def run_calls(scene: Scene, rng: random.Random, images: Sequence[Subject]) -> None:
    """A few system calls fail again and again while images are read over new connections, and evicted."""
    scene.emulator.switches.range = rng.random() < 0.7
    parts = [images[at : at + IMAGES_A_CALL] for at in range(0, len(images), IMAGES_A_CALL)]
    for injection, chosen in zip(rng.sample(CACHE_CALLS + OTHER_CALLS, CALLS_A_ROUND), parts, strict=True):
        scene.proxy.cut_all()
        with injected(scene.daemon.pid, injection, scene.folder) as counted:
            witnesses = scene.read_together(readings(rng, chosen), extra_s=30.0)
            _evict(scene)
        scene.tally.strike(injection.kind, counted.times)
        scene.ensure_alive()
        if injection in CACHE_CALLS:
            _judge_cache(scene, injection, witnesses)
        scene.must_read(chosen, "the mount lives on")


def _evict(scene: Scene) -> None:
    """Have everything evicted; where its calls fail, it may say so."""
    try:
        os.getxattr(scene.daemon.root, "user.imagefs.do.evict")
    except OSError as error:
        if error.errno == errno.ENODATA:
            raise


def _judge_cache(scene: Scene, injection: Injection, witnesses: Sequence[Witness]) -> None:
    """No reader fails for the cache alone."""
    for witness in witnesses:
        if witness.error is not None and witness.error.errno != errno.ENOTCONN:
            scene.tally.broken(
                "never EIO for the cache alone", f"{witness.shape} of {witness.subject} under {injection.kind}: "
                f"{witness.error}"
            )  # fmt: skip
