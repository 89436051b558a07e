"""A web server on this machine, from which the demo's service downloads an image. On a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class _QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a word on standard error."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name for it
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """All of *folder*, on a free port of this machine until the block ends; the URL of it, without the last slash."""
    handler = partial(_QuietHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, name="demo source", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
