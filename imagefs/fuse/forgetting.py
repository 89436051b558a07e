"""Names that the kernel is to look up again, told to it by a thread of their own.

The kernel takes such a notice in only when nobody has the directory locked, and who answers its requests must not
wait for that. Nor should this thread, in the kernel: if the process is killed meanwhile, the thread cannot end before
the request is answered that holds the lock, and nobody answers it any more. So notices wait here until no such
request is under way.
"""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import Final

import pyfuse3

logger = logging.getLogger(__name__)

STOP_PATIENCE_S: Final = 1.0
"""How long :meth:`Forgetter.stop` waits for a notice that the kernel has not taken in yet."""


LOOK_AGAIN_S: Final = 0.5
"""How often a waiting thread looks whether it is to stop."""


class Forgetter:
    """Tells the kernel of names, in order, while a mount lasts. Methods are called on trio's thread.

    *directories_free* is set while no request is under way that has a directory locked.
    """

    def __init__(self, directories_free: threading.Event) -> None:
        self._directories_free = directories_free
        self._names: SimpleQueue[tuple[int, bytes] | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="forget names", daemon=True)

    def start(self) -> None:
        """Begin; there is a session from now on."""
        self._thread.start()

    def forget(self, directory: int, name: bytes) -> None:
        """*name* in *directory* (its inode number) may mean something else now."""
        self._names.put((directory, name))

    def stop(self) -> None:
        """End, as far as the kernel lets it: the session is about to be destroyed. What is not told yet is not."""
        self._stopped.set()
        self._names.put(None)
        self._thread.join(STOP_PATIENCE_S)

    def _work(self) -> None:
        while (noted := self._names.get()) is not None:
            directory, name = noted
            while not self._directories_free.wait(LOOK_AGAIN_S) and not self._stopped.is_set():
                pass
            if self._stopped.is_set():
                return
            try:
                pyfuse3.invalidate_entry(pyfuse3.InodeT(directory), pyfuse3.FileNameT(name))
            except OSError as error:  # mostly ENOENT: the kernel did not know the name
                logger.debug("The kernel does not forget %r: %s", name, error)
