"""The dummy filesystem, mounted for a test."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from imagefs.fuse.mounts import mount_at

HERE: Final = Path(__file__).parent
PATIENCE_S: Final = 30.0


class Filesystem:
    """The dummy filesystem, mounted in a process of its own."""

    def __init__(self, mountpoint: Path) -> None:
        self.mountpoint = mountpoint
        command = [sys.executable, str(HERE / "dummy_filesystem.py"), str(mountpoint)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        self.wait_for("mounted")

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line.rstrip("\n"))

    def next_line(self) -> str:
        """What the filesystem says next; waits for it."""
        return self._lines.get(timeout=PATIENCE_S)

    def wait_for(self, line: str) -> None:
        """Wait until the filesystem says this."""
        while self.next_line() != line:
            pass

    def client(self, call: str) -> subprocess.Popen[str]:
        """A program that makes one system call."""
        command = [sys.executable, str(HERE / "dummy_client.py"), call]
        return subprocess.Popen(command, cwd=self.mountpoint, stdout=subprocess.PIPE, text=True)

    def run(self, *command: str) -> str:
        """What a program prints; it must succeed."""
        done = subprocess.run(command, cwd=self.mountpoint, capture_output=True, text=True, check=True)
        return done.stdout

    def hesitate(self) -> None:
        """Have it announced when there is a request, which is not received before :meth:`go_on`."""
        self._process.send_signal(signal.SIGUSR1)
        self.wait_for("next time")

    def go_on(self) -> None:
        """It is received now."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    @property
    def pipes(self) -> list[str]:
        """The pipes that its process has made."""
        opened = Path(f"/proc/{self._process.pid}/fd").iterdir()
        links = [str(each.readlink()) for each in opened if int(each.name) > 2]
        return [link for link in links if link.startswith("pipe:")]

    def end(self) -> int:
        """Unmount it by a signal."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait()

    def clean_up(self) -> None:
        """Leave nothing behind, whatever the test came to."""
        if mount_at(self.mountpoint) is not None:
            subprocess.run(["fusermount3", "-u", "-z", str(self.mountpoint)], check=False)
        self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stdin is not None
        self._process.stdin.close()
