"""The times and limits of the account's caches; chosen by the application, the same for a whole mount."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """How long answers are good for, and how hard the service is asked."""

    listing_ttl_s: float = 30.0
    """How old a listing may be before it is asked for again; details of failed images as well."""

    pending_ttl_s: float = 5.0
    """The same while an image is pending, and for the details of pending images."""

    listing_patience_s: float = 5.0
    """How long one who asks waits for a refresh where an older listing could serve."""

    call_deadline_s: float = 30.0
    """The time that one call may take, its retries included."""

    suspect_deadline_s: float = 10.0
    """The same for details after a call has failed, until one succeeds."""

    failure_ttl_s: float = 5.0
    """How long a failure is answered from memory."""

    retry_first_s: float = 1.0
    """The pause before a failed listing is tried again in the background; it doubles from then on."""

    retry_max_s: float = 60.0
    """The longest such pause."""

    details_parallel: int = 16
    """How many calls for details may be under way at once."""

    prefetch_trigger_s: float = 1.0
    """Two misses in a region no further apart than this start the prefetch of the region's details."""

    prefetch_idle_s: float = 2.0
    """A prefetch that was started so ends when nobody has asked for details in its region for this long."""

    write_delay_s: float = 0.5
    """How long changes are gathered before they are written to the index in one go."""

    max_brief_entries: int = 65_536
    """How many short-lived entries (pending details, failures, error texts) are held of each kind."""
