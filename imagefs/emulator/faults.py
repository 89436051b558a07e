"""Faults as values, and the plan of which call is struck by which.

A test adds faults; each strikes the next calls that it fits. What a kind does is in ``fault_effects``. Used
by the site on the connection threads, by tests and the control plane on theirs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

NATURAL_ACTION: Final = {
    # In place of the answer; the action is not carried out.
    "status": "retrieve",
    "redirect": "retrieve",
    "html": "retrieve",
    "refused": "retrieve",
    "never_answers": "retrieve",
    # The action is carried out, and the answer is altered.
    "answer_lost": "replicate",
    "delayed": "retrieve",
    "garbage_status_line": "retrieve",
    "header_flood": "retrieve",
    "interim": "retrieve",
    "reset": "retrieve",
    "close": "retrieve",
    "stall": "retrieve",
    "trickle": "retrieve",
    "length_wrong": "retrieve",
    "trailing_bytes": "retrieve",
    "gzip": "retrieve",
    "unasked_206": "retrieve",
    "wrong_content_range": "retrieve",
    "range_ignored": "retrieve",
    "no_length": "retrieve",
    "corrupt_byte": "retrieve",
    "other_image": "retrieve",
    "json_content": "retrieve",
    "html_content": "retrieve",
    "truncated_json": "list",
    "huge_json": "list",
    "deep_json": "list",
    "success_missing": "details",
    "fields": "details",
    "fields_missing": "details",
    "nan_size": "details",
    "wrong_types": "details",
    "list_cut": "list",
    "list_empty": "list",
    "list_doubled": "list",
    "replica_killed": "replicate",
    "replica_checksum": "replicate",
    "replica_size": "replicate",
}
"""Every kind of fault, with the action that it strikes where none is given."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    ``action`` is the image action that is struck, "plain" for a plain GET, "any" for all of these, None for
    the kind's natural one; ``image_id`` narrows it to calls with that parameter. It strikes ``times``
    times, or until it is cleared where that is None. ``after_bytes`` is where in the body it happens;
    ``value``, ``status`` and ``retry_after`` mean what the kind makes of them. Raises ValueError for an
    unknown kind.
    """

    kind: str
    action: str | None = None
    image_id: str | None = None
    times: int | None = 1
    after_bytes: int = 0
    value: Any = None
    status: int | None = None
    retry_after: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in NATURAL_ACTION:
            raise ValueError(
                f"There is no fault {self.kind!r}; there are {', '.join(sorted(NATURAL_ACTION))}."
            )

    def fits(self, action: str, image_id: str | None) -> bool:
        """Whether a call of *action* on *image_id* is struck."""
        wanted = self.action or NATURAL_ACTION[self.kind]
        return wanted in ("any", action) and self.image_id in (None, image_id)


@dataclass(slots=True)
class _Planned:
    fault: Fault
    times_left: int | None


class FaultPlan:
    """The faults that are still to strike, the oldest first."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._planned: list[_Planned] = []
        self._struck: Counter[str] = Counter()

    def add(self, fault: Fault) -> None:
        """Let *fault* strike, after those added before it."""
        with self._lock:
            self._planned.append(_Planned(fault, fault.times))

    def clear(self) -> None:
        """Let none of the faults strike any more; ``struck`` stays."""
        with self._lock:
            self._planned.clear()

    @property
    def struck(self) -> Counter[str]:
        """How many calls were struck, by kind."""
        with self._lock:
            return Counter(self._struck)

    @property
    def waiting(self) -> list[Fault]:
        """The faults that can still strike."""
        with self._lock:
            return [planned.fault for planned in self._planned]

    def take(self, action: str, image_id: str | None) -> Fault | None:
        """The fault that strikes this call, if any; it is used up by one."""
        with self._lock:
            for planned in self._planned:
                if planned.fault.fits(action, image_id):
                    break
            else:
                return None
            if planned.times_left is not None:
                planned.times_left -= 1
                if planned.times_left <= 0:
                    self._planned.remove(planned)
            self._struck[planned.fault.kind] += 1
            return planned.fault
