"""How the emulator behaves, as switches that can be turned while it runs.

Set by tests as attributes, by the command line at start, and over ``/control/switches``; read by the
connection threads at the moment each value matters. Setting an attribute is atomic, so no lock is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

FRAMINGS: Final = ("length", "chunked", "close")
REFUSE_FORMS: Final = ("json", "401", "403")


@dataclass(slots=True)
class Switches:
    """Every way in which the real service is not documented, and a few to make it slow.

    ``range``: ``image/retrieve`` honours the Range header. ``framing``: how the end of a content is told,
    by Content-Length, chunks, or the end of the connection. ``latency_s``: waited before each answer.
    ``rate_bytes_per_s``: per connection, None for no limit. ``list_success``: ``image/list`` has a
    ``success`` key. ``list_frozen``: ``image/list`` repeats its first answer since this was turned on.
    ``saving_s``: from replicate or fetch to active. ``pending_changes``: an image can be renamed and deleted
    before it is active. ``rate_limit_per_s``: signed calls a second, more are answered 429, with
    ``retry_after`` as header where it is set. ``clock_offset_s``: how far the service's clock is ahead.
    ``nonce_window_s``: how far a nonce may be from that clock. ``unique_nonce``: a nonce is accepted
    once. ``refuse_form``: refusals as HTTP 200 ("json"), or with status 401 or 403. ``max_connections``:
    more are answered 503.
    """

    range: bool = True
    framing: str = "length"
    latency_s: float = 0.0
    rate_bytes_per_s: float | None = None
    list_success: bool = False
    list_frozen: bool = False
    saving_s: float = 1.0
    pending_changes: bool = True
    rate_limit_per_s: float | None = None
    retry_after: str | None = None
    clock_offset_s: float = 0.0
    nonce_window_s: float = 300.0
    unique_nonce: bool = False
    refuse_form: str = "json"
    max_connections: int | None = None

    def turn(self, changes: Mapping[str, Any]) -> None:
        """Set several switches, or none of them.

        Raises ValueError, with a sentence for a person, for an unknown name or a value of the wrong type.
        """
        for name, value in changes.items():
            self._check(name, value)
        for name, value in changes.items():
            setattr(self, name, value)

    def as_dict(self) -> dict[str, Any]:
        """All switches by name."""
        return asdict(self)

    @staticmethod
    def _check(name: str, value: object) -> None:
        kinds = {field.name: str(field.type) for field in fields(Switches)}
        if name not in kinds:
            raise ValueError(f"There is no switch {name!r}; there are {', '.join(kinds)}.")
        choices = {"framing": FRAMINGS, "refuse_form": REFUSE_FORMS}.get(name)
        if choices is not None and value not in choices:
            raise ValueError(f"The switch {name} is one of {', '.join(choices)}, not {value!r}.")
        kind = kinds[name]
        accepted = {
            "bool": isinstance(value, bool),
            "str": isinstance(value, str),
            "float": isinstance(value, int | float) and not isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
        }[kind.removesuffix(" | None")]
        if not accepted and not (value is None and kind.endswith("| None")):
            raise ValueError(f"The switch {name} is a {kind}, not {value!r}.")
