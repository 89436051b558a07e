"""The reserve for small allocations, in a process of its own whose address space is limited for real."""

from __future__ import annotations

import subprocess
import sys

LIMITED = """
import resource, threading
from pathlib import Path
from imagefs.fuse import interpose

MIB = 1 << 20

def size_bytes():
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

def large():
    try:
        return len(bytes(4 * MIB)) == 4 * MIB
    except MemoryError:
        return False

def thread():
    answers = []
    try:
        thread = threading.Thread(target=answers.append, args=(1,))
        thread.start()
        thread.join()
    except (RuntimeError, MemoryError):
        return True
    return answers == [1]

before = size_bytes()
assert interpose.load().keep_reserve()
assert size_bytes() - before >= 32 * MIB
resource.setrlimit(resource.RLIMIT_AS, (size_bytes(), resource.RLIM_INFINITY))
small = [bytes(1000) for _ in range(12_000)]
assert not large()
assert all(thread() for _ in range(20))
more = [bytes(1000) for _ in range(6_000)]
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spent = size_bytes()
assert large()
assert size_bytes() - spent >= 16 * MIB
"""


def test_small_needs_are_met_where_large_ones_fail():
    """Nor does starting a thread hang; once there is memory again, the reserve is filled up and large needs are met."""
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
