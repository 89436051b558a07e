"""The head of an answer, bounded in size, with interim answers before it skipped.

Used by the connections in place of http.client's own. That takes a 103 for the answer, so that the real one would be
read as the answer to the next call.
"""

from __future__ import annotations

import http.client
import io
from typing import Final

from imagefs.api.limits import KIB

HEAD_BYTES: Final = 64 * KIB
"""The longest head, that of interim answers included."""

MOST_INTERIM: Final = 16
"""How many interim answers (RFC 9110, 15.2) are skipped. None of them is ever asked for."""


class AnswerHead(http.client.HTTPResponse):
    """http.client's answer, with a head that is read more strictly."""

    def begin(self) -> None:
        """Read the head; raises `http.client.HTTPException` for one that is too long or switches protocols."""
        body = self.fp
        self.fp = _Bounded(body)  # type: ignore[assignment]  # its lines are all that is read of a head
        try:
            for _ in range(MOST_INTERIM):
                super().begin()
                if self.status == http.HTTPStatus.SWITCHING_PROTOCOLS:
                    raise http.client.HTTPException("another protocol was not asked for")
                if self.status >= 200:
                    return
                self.headers = self.msg = None  # type: ignore[assignment]  # http.client's mark for a head not read
            raise http.client.HTTPException("too many interim answers")
        finally:
            if self.fp is not None:  # closed where this was no answer at all
                self.fp = body


class _Bounded:
    """The lines of a head; raises `http.client.HTTPException` past `HEAD_BYTES`."""

    def __init__(self, lines: io.BufferedIOBase) -> None:
        self._lines = lines
        self._left_bytes = HEAD_BYTES

    def readline(self, most_bytes: int = -1) -> bytes:
        """The next line."""
        line = self._lines.readline(most_bytes)
        self._left_bytes -= len(line)
        if self._left_bytes < 0:
            raise http.client.HTTPException("the answer's head is too long")
        return line

    def close(self) -> None:
        """Close what the lines come from."""
        self._lines.close()
