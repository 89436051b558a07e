"""How many bytes were read and how many were fetched for that, as the status shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Bytes since the mount began: given to programs, and come from the service. On trio's thread."""

    read_bytes: int = 0
    fetched_bytes: int = 0

    @property
    def hit_rate(self) -> float | None:
        """The share of what was read that did not have to be fetched, 0 to 1; None where nothing was read."""
        if not self.read_bytes:
            return None
        return max(0.0, 1.0 - self.fetched_bytes / self.read_bytes)
